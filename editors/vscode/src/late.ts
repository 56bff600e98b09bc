/** Asks again when the model has become ready, where something was asked for in vain meanwhile. */
import * as vscode from 'vscode';
import type { Session } from './session.ts';

export class LateSuggestions implements vscode.Disposable {
    readonly #session: Session;
    readonly #subscription: vscode.Disposable;
    /** Where the cursor was at the last request that came too early. */
    #place: string | undefined;

    constructor(session: Session) {
        this.#session = session;
        this.#subscription = session.onDidChange(() => this.#follow());
    }

    dispose(): void {
        this.#subscription.dispose();
    }

    #follow(): void {
        const { asking, status } = this.#session;
        switch (status?.engine?.state) {
            case 'loading':
                this.#place = asking > 0 ? placeOfCursor() : this.#place;
                break;
            case 'ready':
                // Whoever went on meanwhile is asked about where he is now.
                if (this.#place !== undefined && this.#place === placeOfCursor()) {
                    void vscode.commands.executeCommand('editor.action.inlineSuggest.trigger');
                }
                this.#place = undefined;
                break;
        }
    }
}

function placeOfCursor(): string | undefined {
    const editor = vscode.window.activeTextEditor;
    return editor && `${editor.document.uri.toString()} ${editor.document.version} ${editor.selection.active.line} ${editor.selection.active.character}`;
}
