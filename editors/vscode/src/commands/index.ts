/** Commands about the index. */
import * as vscode from 'vscode';
import { indexPage, PAGE_COMMANDS, type IndexAnswer } from '../panels/statusPage.ts';
import type { Handlers, Parts } from './parts.ts';

interface Result {
    readonly root: string;
    readonly path: string;
    readonly start_line: number;
    readonly end_line: number;
    readonly text: string;
}

export function indexCommands({ session, panels }: Parts): Handlers {
    return {
        'intract.rebuildIndex': async () => {
            const { message } = await session.execute<{ message: string }>('intract.reindex');
            vscode.window.setStatusBarMessage(message, 4000);
        },
        'intract.showIndex': async () => {
            const answer = await session.execute<IndexAnswer>('intract.indexStatus');
            panels.show('index', 'Intract: Index', indexPage(answer, Date.now()), PAGE_COMMANDS);
        },
        'intract.searchIndex': async () => {
            const query = await vscode.window.showInputBox({
                title: 'Search the index',
                prompt: 'Names and words that the code you look for has',
                validateInput: (text) => (text.trim() === '' ? 'Write what to look for.' : undefined),
            });
            if (query !== undefined) {
                const { results, message } = await session.execute<{ results: Result[]; message: string }>(
                    'intract.searchWorkspace', { query, limit: 30 });
                await showResults(results, message || 'Nothing in the index fits.');
            }
        },
    };
}

async function showResults(results: readonly Result[], otherwise: string): Promise<void> {
    if (results.length === 0) {
        void vscode.window.showInformationMessage(otherwise);
        return;
    }
    const picks = results.map((result) => ({
        label: `${result.path}:${result.start_line}`,
        detail: result.text.trim().split('\n').slice(0, 2).join('  ⏎  ').slice(0, 160),
        result,
    }));
    const chosen = await vscode.window.showQuickPick(picks, { title: `${results.length} places`, matchOnDetail: true });
    if (chosen !== undefined) {
        const uri = vscode.Uri.joinPath(vscode.Uri.file(chosen.result.root), chosen.result.path);
        const selection = new vscode.Range(chosen.result.start_line - 1, 0, chosen.result.end_line - 1, 0);
        await vscode.window.showTextDocument(uri, { selection });
    }
}
