/** Tells the server where the cursor rests, so that it can get ready for a suggestion there. */
import * as vscode from 'vscode';
import { isServed } from './documents.ts';
import type { Session } from './session.ts';

/** Milliseconds without a move after which a cursor rests. */
const REST_MS = 400;

export class CursorReports implements vscode.Disposable {
    readonly #session: Session;
    readonly #subscriptions: vscode.Disposable[];
    #timer: NodeJS.Timeout | undefined;

    constructor(session: Session) {
        this.#session = session;
        this.#subscriptions = [
            vscode.window.onDidChangeActiveTextEditor((editor) => this.#later(editor)),
            vscode.window.onDidChangeTextEditorSelection(({ textEditor }) => this.#later(textEditor)),
        ];
    }

    dispose(): void {
        clearTimeout(this.#timer);
        vscode.Disposable.from(...this.#subscriptions).dispose();
    }

    #later(editor: vscode.TextEditor | undefined): void {
        clearTimeout(this.#timer);
        if (editor !== undefined && isServed(editor.document.uri.scheme)) {
            this.#timer = setTimeout(() => this.#tell(editor), REST_MS);
        }
    }

    #tell({ document, selection }: vscode.TextEditor): void {
        if (selection.isEmpty && !document.isClosed) {
            const { line, character } = selection.active;
            const position = { line, character };
            this.#session.notify('intract/cursor', { textDocument: { uri: document.uri.toString() }, position });
        }
    }
}
