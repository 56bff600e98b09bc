/** Commands about the model, the status, the server itself and its log. */
import * as vscode from 'vscode';
import { PAGE_COMMANDS, statusPage } from '../panels/statusPage.ts';
import { menuEntries } from '../status/menu.ts';
import { isTraining, type StatusValues } from '../status/values.ts';
import { activeLanguage } from '../status/bar.ts';
import type { Handlers, Parts } from './parts.ts';
import { modelPicks, size, type ModelValues } from './values.ts';

export function modelCommands(parts: Parts): Handlers {
    const { session, panels, log } = parts;
    return {
        'intract.openMenu': () => openMenu(parts),
        'intract.showStatus': async () => {
            const status = await session.execute<StatusValues>('intract.status');
            panels.show('status', 'Intract: Status', statusPage(status, session.program, Date.now()), PAGE_COMMANDS);
        },
        'intract.chooseModel': () => chooseModel(parts),
        'intract.clearCaches': async () => {
            const { message } = await session.execute<{ message: string }>('intract.clearCache');
            vscode.window.setStatusBarMessage(message, 4000);
        },
        'intract.installServer': () => parts.installServer(),
        'intract.restartServer': () => session.restartByHand(),
        'intract.showLog': () => log.show(),
        'intract.openSettings': () =>
            void vscode.commands.executeCommand('workbench.action.openSettings', '@ext:intract-lsp.intract'),
    };
}

async function openMenu({ session, bar }: Parts): Promise<void> {
    const language = activeLanguage();
    const { kind, sentence } = bar.presentation;
    const entries = menuEntries({
        kind,
        language,
        languageOff: language !== undefined && session.status?.disabledLanguages?.includes(language) === true,
        paused: session.status?.enabled === false,
        workspace: vscode.workspace.workspaceFolders === undefined ? 'none'
            : vscode.workspace.getConfiguration('intract').get('completion.enabled') === false ? 'off' : 'on',
        canTrain: vscode.workspace.isTrusted && session.announced.includes('intract.fineTune'),
        training: isTraining(session.status),
    });
    const chosen = await vscode.window.showQuickPick(entries, { title: 'Intract', placeHolder: sentence });
    if (chosen !== undefined) {
        await vscode.commands.executeCommand(chosen.command);
    }
}

async function chooseModel({ session }: Parts): Promise<void> {
    const asked = session.execute<{ models: ModelValues[]; current: string }>('intract.selectModel');
    const picks = asked.then(({ models, current }) => modelPicks(models, current));
    const options = { title: 'Choose a model', placeHolder: 'A larger one suggests better and slower', matchOnDetail: true };
    const [, chosen] = await Promise.all([asked, vscode.window.showQuickPick(picks, options)]);
    if (chosen === undefined) {
        return;
    }
    const { name, installed, download_bytes: bytes } = chosen.value;
    if (installed !== true && !(await confirm(`Download ${name} (${size(bytes)})?`, 'Download'))) {
        return;
    }
    const { message } = await session.execute<{ message: string }>('intract.selectModel', { name });
    vscode.window.setStatusBarMessage(message, 4000);
}

/** Ask before something that costs or destroys. */
export async function confirm(question: string, way: string, detail = ''): Promise<boolean> {
    return (await vscode.window.showWarningMessage(question, { modal: true, detail }, way)) === way;
}
