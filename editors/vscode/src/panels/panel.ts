/** Webviews that show a page: no scripts, one panel a kind, used again. */
import * as vscode from 'vscode';

export class Panels implements vscode.Disposable {
    readonly #open = new Map<string, vscode.WebviewPanel>();

    /** Show a page; `commands` are those that its links may run. */
    show(kind: string, title: string, html: string, commands: readonly string[] = []): void {
        let panel = this.#open.get(kind);
        if (panel === undefined) {
            const place = { viewColumn: vscode.ViewColumn.Beside, preserveFocus: true };
            panel = vscode.window.createWebviewPanel(`intract.${kind}`, title, place, {
                enableScripts: false,
                enableCommandUris: commands,
                localResourceRoots: [],
            });
            panel.onDidDispose(() => this.#open.delete(kind));
            this.#open.set(kind, panel);
        }
        panel.title = title;
        panel.webview.html = html;
        panel.reveal(undefined, true);
    }

    dispose(): void {
        for (const panel of this.#open.values()) {
            panel.dispose();
        }
    }
}
