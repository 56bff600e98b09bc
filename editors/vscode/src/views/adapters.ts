/** The view of adapters and runs. */
import * as vscode from 'vscode';
import { gain, isActive, type AdapterValues } from '../commands/values.ts';
import type { Session } from '../session.ts';
import { age } from '../status/presentation.ts';

export interface RunValues {
    readonly id: string;
    readonly state?: string;
    readonly message?: string;
    /** In seconds since 1970. */
    readonly created?: number;
}

export interface AdaptersAnswer {
    readonly adapters: readonly AdapterValues[];
    readonly runs: readonly RunValues[];
}

type Node = { readonly adapter: AdapterValues } | { readonly run: RunValues };

const RUN_ICONS: Readonly<Record<string, string>> = {
    queued: 'clock', running: 'sync~spin', evaluating: 'beaker', promoted: 'pass', succeeded: 'pass', rejected: 'circle-slash',
    failed: 'error', stopped: 'debug-stop',
};

export class AdapterTree implements vscode.TreeDataProvider<Node>, vscode.Disposable {
    readonly #session: Session;
    readonly #changed = new vscode.EventEmitter<void>();
    readonly onDidChangeTreeData = this.#changed.event;
    readonly #subscriptions: vscode.Disposable[];
    #answer: AdaptersAnswer = { adapters: [], runs: [] };
    #seen = '';

    constructor(session: Session) {
        this.#session = session;
        this.#subscriptions = [
            this.#changed,
            vscode.window.registerTreeDataProvider('intract.adapters', this),
            session.onDidChange(() => this.#follow()),
        ];
    }

    /** Ask the server again, show it and return it. */
    async refresh(): Promise<AdaptersAnswer> {
        const answer = await this.#session.execute<Partial<AdaptersAnswer>>('intract.adapters.list');
        this.#answer = { adapters: answer.adapters ?? [], runs: answer.runs ?? [] };
        this.#changed.fire();
        return this.#answer;
    }

    getChildren(node?: Node): Node[] {
        if (node !== undefined) {
            return [];
        }
        return [...this.#answer.adapters.map((adapter) => ({ adapter })), ...this.#answer.runs.map((run) => ({ run }))];
    }

    getTreeItem(node: Node): vscode.TreeItem {
        return 'adapter' in node ? adapterItem(node.adapter) : runItem(node.run);
    }

    dispose(): void {
        vscode.Disposable.from(...this.#subscriptions).dispose();
    }

    /** A run that changes its state may have made an adapter. */
    #follow(): void {
        const { state, status, announced } = this.#session;
        if (state.kind !== 'running' || !announced.includes('intract.adapters.list') || !vscode.workspace.isTrusted) {
            return;
        }
        const seen = `${status?.training?.run}/${status?.training?.state}/${status?.model?.adapter}`;
        if (seen !== this.#seen) {
            this.#seen = seen;
            this.refresh().catch(() => {
                this.#seen = '';
            });
        }
    }
}

function adapterItem(adapter: AdapterValues): vscode.TreeItem {
    const item = new vscode.TreeItem(adapter.id);
    item.description = [isActive(adapter) ? 'active' : adapter.status, gain(adapter)].filter(Boolean).join(' · ');
    item.tooltip = [adapter.id, item.description, adapter.base && `for ${adapter.base}`, adapter.trial?.message].filter(Boolean).join('\n');
    item.iconPath = new vscode.ThemeIcon(isActive(adapter) ? 'pass-filled' : 'package');
    item.contextValue = isActive(adapter) ? 'adapterActive' : 'adapter';
    return item;
}

function runItem(run: RunValues): vscode.TreeItem {
    const item = new vscode.TreeItem(run.id);
    item.description = [run.state, run.created === undefined ? '' : age(run.created, Date.now())].filter(Boolean).join(' · ');
    item.tooltip = [item.description, run.message].filter(Boolean).join('\n');
    item.iconPath = new vscode.ThemeIcon(RUN_ICONS[run.state ?? ''] ?? 'history');
    item.contextValue = 'run';
    return item;
}
