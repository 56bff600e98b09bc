/** The status bar item and the entries of the language status. */
import * as vscode from 'vscode';
import { isServed, SELECTOR } from '../documents.ts';
import type { Session } from '../session.ts';
import { age, present, type Presentation } from './presentation.ts';
import { adapterOf } from './values.ts';

export class StatusBar implements vscode.Disposable {
    readonly #session: Session;
    readonly #item: vscode.StatusBarItem;
    readonly #model: vscode.LanguageStatusItem;
    readonly #index: vscode.LanguageStatusItem;
    readonly #timings: vscode.LanguageStatusItem;
    readonly #subscriptions: vscode.Disposable[];

    constructor(session: Session) {
        this.#session = session;
        this.#item = vscode.window.createStatusBarItem('intract.status', vscode.StatusBarAlignment.Right, 100);
        this.#item.name = 'Intract';
        this.#item.command = 'intract.openMenu';
        this.#model = entry('model', 'Intract: model', 'intract.chooseModel', 'Choose');
        this.#index = entry('index', 'Intract: index', 'intract.showIndex', 'Show');
        this.#timings = entry('timings', 'Intract: last request', 'intract.whyNoSuggestion', 'Details');
        const show = (): void => this.#show();
        this.#subscriptions = [
            this.#item, this.#model, this.#index, this.#timings,
            session.onDidChange(show),
            vscode.window.onDidChangeActiveTextEditor(show),
        ];
        this.#show();
        this.#item.show();
    }

    /** Return what is shown now. */
    get presentation(): Presentation {
        const { state, status, asking, offers } = this.#session;
        return present({ session: state, status, asking, offers, language: activeLanguage() });
    }

    dispose(): void {
        vscode.Disposable.from(...this.#subscriptions).dispose();
    }

    #show(): void {
        const { text, sentence, severity } = this.presentation;
        this.#item.text = text;
        this.#item.tooltip = `Intract: ${sentence}`;
        this.#item.accessibilityInformation = { label: `Intract: ${sentence}` };
        const colour = severity === 'none' ? undefined : new vscode.ThemeColor(`statusBarItem.${severity}Background`);
        this.#item.backgroundColor = colour;
        this.#showEntries(sentence);
    }

    #showEntries(sentence: string): void {
        const { status } = this.#session;
        const adapter = adapterOf(status);
        this.#model.text = status?.engine?.model ?? 'no model';
        this.#model.detail = adapter ? `adapter ${adapter}` : sentence;
        this.#model.busy = status?.engine?.state === 'loading';
        this.#index.text = status?.index ? `${(status.index.files ?? 0).toLocaleString('en')} files` : 'no index';
        this.#index.detail = status?.index ? `updated ${age(status.index.updatedAt, Date.now())}` : '';
        this.#index.busy = status?.index?.state === 'indexing';
        const total = status?.lastTimings?.['total'];
        this.#timings.text = total === undefined ? 'no request yet' : `${Math.round(total)} ms`;
        this.#timings.detail = status?.shownMilliseconds ? `median ${Math.round(status.shownMilliseconds.p50)} ms` : '';
    }
}

/** Return the language of the active editor, if its document gets suggestions. */
export function activeLanguage(): string | undefined {
    const document = vscode.window.activeTextEditor?.document;
    return document && isServed(document.uri.scheme) ? document.languageId : undefined;
}

function entry(id: string, name: string, command: string, title: string): vscode.LanguageStatusItem {
    const item = vscode.languages.createLanguageStatusItem(`intract.${id}`, SELECTOR);
    item.name = name;
    item.command = { command, title };
    return item;
}
