/** Asks for a suggestion, once the model is ready: also where something was typed or asked for before. */
import * as vscode from 'vscode';
import { isServed } from './documents.ts';
import type { Session } from './session.ts';
import type { StatusBar } from './status/bar.ts';

export class LateSuggestions implements vscode.Disposable {
    readonly #session: Session;
    readonly #bar: StatusBar;
    readonly #subscriptions: readonly vscode.Disposable[];
    /** The place of the last edit, or of the last wish, that came too early. */
    #place: string | undefined;

    constructor(session: Session, bar: StatusBar) {
        this.#session = session;
        this.#bar = bar;
        this.#subscriptions = [
            session.onDidChange(() => this.#follow()),
            vscode.workspace.onDidChangeTextDocument((event) => this.#edited(event)),
        ];
    }

    dispose(): void {
        vscode.Disposable.from(...this.#subscriptions).dispose();
    }

    /** Ask at the cursor. Return false if that has to wait: VS Code would not ask a second time at the same place. */
    ask(): boolean {
        if (this.#loading) {
            this.#place = placeOfCursor();
            return false;
        }
        void vscode.commands.executeCommand('editor.action.inlineSuggest.trigger');
        return true;
    }

    /** Whether there may be suggestions in a moment. */
    get #loading(): boolean {
        return this.#bar.presentation.kind === 'loading';
    }

    /** VS Code asks nobody about what is typed before a server has registered; that is a moment after its start. */
    #edited({ document, contentChanges }: vscode.TextDocumentChangeEvent): void {
        const last = contentChanges.at(-1);
        if (this.#loading && last !== undefined && isServed(document.uri.scheme)) {
            this.#place = place(document, document.positionAt(last.rangeOffset + last.text.length));
        }
    }

    #follow(): void {
        if (this.#loading) {
            return;
        }
        // Whoever went on meanwhile is asked about where he is now, and where there is no model nobody is asked.
        const { state } = this.#session.status?.engine ?? {};
        if ((state === 'ready' || state === 'busy') && this.#place !== undefined && this.#place === placeOfCursor()) {
            this.ask();
        }
        this.#place = undefined;
    }
}

function placeOfCursor(): string | undefined {
    const editor = vscode.window.activeTextEditor;
    return editor && place(editor.document, editor.selection.active);
}

function place(document: vscode.TextDocument, position: vscode.Position): string {
    return `${document.uri.toString()} ${document.version} ${position.line} ${position.character}`;
}
