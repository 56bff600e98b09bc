/** Commands about fine-tuning and adapters. None of them works in an untrusted workspace. */
import * as vscode from 'vscode';
import { confined } from '../panels/html.ts';
import { folderPaths } from '../server/locate.ts';
import { isTraining } from '../status/values.ts';
import { confirm } from './models.ts';
import type { Handler, Handlers, Parts } from './parts.ts';
import { adapterPicks, isActive, minutesProblem, type AdapterValues } from './values.ts';

interface Told {
    readonly message?: string;
}

const METHODS = [
    { label: 'Automatic', detail: 'What suits this machine', method: undefined },
    { label: 'LoRA', detail: 'Small matrices beside the weights: quick, little memory', method: 'lora' },
    { label: 'QLoRA', detail: 'The same beside weights in 4 bits: least memory', method: 'qlora' },
    { label: 'Standard', detail: 'Every weight: most memory and time', method: 'standard' },
];

export function trainingCommands(parts: Parts): Handlers {
    const { session, adapters } = parts;
    const handlers: Handlers = {
        'intract.startFineTune': () => startFineTune(parts),
        'intract.cancelFineTune': async () => {
            const detail = 'What it has learnt so far is lost; the model in use stays as it is.';
            if (!isTraining(session.status) || (await confirm('Cancel the fine-tuning run?', 'Cancel Run', detail))) {
                tell(await session.execute<Told>('intract.fineTune.cancel'));
            }
        },
        'intract.showFineTune': async () => {
            const { message } = await session.execute<Told>('intract.fineTune.status');
            const way = isTraining(session.status) ? 'Cancel Run' : 'Open Report';
            const chosen = await vscode.window.showInformationMessage(message || session.status?.training?.message || 'No run is going on.', way);
            if (chosen !== undefined) {
                await vscode.commands.executeCommand(chosen === 'Cancel Run' ? 'intract.cancelFineTune' : 'intract.openReport');
            }
        },
        'intract.openReport': (argument) => openReport(parts, runOf(argument)),
        'intract.refreshAdapters': async () => {
            await adapters.refresh();
        },
        'intract.promoteAdapter': async (argument) => {
            const adapter = await chooseAdapter(parts, argument, 'Use which adapter?');
            if (adapter !== undefined) {
                await change(parts, 'intract.adapters.promote', { id: adapter.id });
            }
        },
        'intract.rollBackAdapter': () => change(parts, 'intract.adapters.rollback', {}),
        'intract.removeAdapter': async (argument) => {
            const adapter = await chooseAdapter(parts, argument, 'Remove which adapter?');
            const detail = 'Its files are deleted. The base model stays.';
            if (adapter !== undefined && (await confirm(`Remove ${adapter.id}?`, 'Remove', detail))) {
                await change(parts, 'intract.adapters.remove', { id: adapter.id });
            }
        },
        'intract.exportAdapter': (argument) => exportAdapter(parts, argument),
        'intract.forgetFile': () => forgetFile(parts),
    };
    return Object.fromEntries(Object.entries(handlers).map(([id, handler]) => [id, guarded(handler)]));
}

/** Project code is learnt from, and kept, only where the user trusts the workspace. */
function guarded(handler: Handler): Handler {
    return async (argument) => {
        if (!vscode.workspace.isTrusted) {
            throw new Error('Fine-tuning is off in this workspace until you trust it (command "Manage Workspace Trust").');
        }
        await handler(argument);
    };
}

async function startFineTune({ session }: Parts): Promise<void> {
    const folder = await chooseFolder();
    if (folder === undefined) {
        return;
    }
    const chosen = await vscode.window.showQuickPick(METHODS, { title: 'Fine-tune on this project: method' });
    if (chosen === undefined) {
        return;
    }
    const minutes = await vscode.window.showInputBox({
        title: 'Fine-tune on this project: time',
        prompt: 'Minutes that the training may take; empty for what suits this machine',
        validateInput: minutesProblem,
    });
    if (minutes === undefined) {
        return;
    }
    tell(await session.execute<Told>('intract.fineTune', {
        folder,
        ...(chosen.method !== undefined && { method: chosen.method }),
        ...(minutes.trim() !== '' && { minutes: Number(minutes) }),
    }));
}

async function chooseFolder(): Promise<string | undefined> {
    const folders = folderPaths();
    if (folders.length === 0) {
        throw new Error('Open a folder first: fine-tuning learns from its code.');
    }
    return folders.length === 1 ? folders[0] : vscode.window.showQuickPick(folders, { title: 'Learn from which folder?' });
}

async function openReport({ session, panels }: Parts, run: string | undefined): Promise<void> {
    const answer = await session.execute<Told & Record<string, unknown>>('intract.fineTune.report', run === undefined ? {} : { run });
    const file = [answer['html'], answer['path']].find((one): one is string => typeof one === 'string' && one !== '');
    if (file === undefined) {
        throw new Error(answer.message || 'There is no report yet: it is written at the end of a run.');
    }
    const bytes = await vscode.workspace.fs.readFile(vscode.Uri.file(file));
    panels.show('report', 'Fine-Tuning Report', confined(Buffer.from(bytes).toString('utf8')));
}

/** Run a command that changes which adapters there are, then show them anew. */
async function change({ session, adapters }: Parts, command: string, argument: Record<string, unknown>): Promise<void> {
    tell(await session.execute<Told>(command, argument));
    await adapters.refresh();
}

async function chooseAdapter({ adapters }: Parts, argument: unknown, title: string): Promise<AdapterValues | undefined> {
    const given = (argument as { adapter?: AdapterValues } | undefined)?.adapter;
    if (given !== undefined) {
        return given;
    }
    const picks = adapterPicks((await adapters.refresh()).adapters);
    if (picks.length === 0) {
        throw new Error('There is no adapter yet: fine-tune on this project first.');
    }
    return (await vscode.window.showQuickPick(picks, { title }))?.value;
}

async function exportAdapter(parts: Parts, argument: unknown): Promise<void> {
    const adapter = await chooseAdapter(parts, argument, 'Export which adapter?');
    if (adapter === undefined) {
        return;
    }
    const forms = [
        { label: 'Adapter', detail: 'Small, for the same base model, as peft reads it', merged: false },
        { label: 'Merged model', detail: 'The whole model, as transformers reads it', merged: true },
    ];
    const form = await vscode.window.showQuickPick(forms, { title: `Export ${adapter.id}${isActive(adapter) ? ' (active)' : ''} as` });
    const options = { canSelectFiles: false, canSelectFolders: true, title: 'Export into', openLabel: 'Export' };
    const target = form && (await vscode.window.showOpenDialog(options))?.[0];
    if (form !== undefined && target !== undefined) {
        const into = vscode.Uri.joinPath(target, adapter.id).fsPath;
        tell(await parts.session.execute<Told>('intract.adapters.export', { id: adapter.id, target: into, merged: form.merged }));
    }
}

async function forgetFile(parts: Parts): Promise<void> {
    const options = { canSelectMany: false, title: 'Forget which file?', openLabel: 'Forget' };
    const active = vscode.window.activeTextEditor?.document.uri;
    const file = (await vscode.window.showOpenDialog({ ...options, ...(active && { defaultUri: active }) }))?.[0];
    if (file === undefined) {
        return;
    }
    const detail = 'Adapters that were trained on it are deleted.';
    const [forget, retrain] = ['Forget', 'Forget and Fine-Tune Again'];
    const question = `Forget ${vscode.workspace.asRelativePath(file)}?`;
    const way = await vscode.window.showWarningMessage(question, { modal: true, detail }, forget, retrain);
    if (way !== undefined) {
        await change(parts, 'intract.adapters.forget', { path: file.fsPath, retrain: way === retrain });
    }
}

function runOf(argument: unknown): string | undefined {
    return (argument as { run?: { id: string } } | undefined)?.run?.id;
}

function tell({ message }: Told): void {
    if (message) {
        void vscode.window.showInformationMessage(message);
    }
}
