/** What menus, views and the walkthrough depend on, as VS Code's context keys. */
import * as vscode from 'vscode';
import type { Session } from './session.ts';
import { isTraining } from './status/values.ts';

export class ContextKeys implements vscode.Disposable {
    readonly #session: Session;
    readonly #subscription: vscode.Disposable;
    readonly #sent = new Map<string, boolean>();

    constructor(session: Session) {
        this.#session = session;
        this.#subscription = session.onDidChange(() => this.#send());
    }

    dispose(): void {
        this.#subscription.dispose();
    }

    #send(): void {
        const { state, status, announced } = this.#session;
        const engine = status?.engine?.state;
        this.#set('intract.running', state.kind === 'running');
        this.#set('intract.ready', engine === 'ready' || engine === 'busy');
        this.#set('intract.hasTraining', announced.includes('intract.fineTune'));
        this.#set('intract.training', isTraining(status));
    }

    #set(key: string, value: boolean): void {
        if (this.#sent.get(key) !== value) {
            this.#sent.set(key, value);
            void vscode.commands.executeCommand('setContext', key, value);
        }
    }
}
