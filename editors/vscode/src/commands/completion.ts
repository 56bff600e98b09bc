/** Commands about suggestions: on and off, why there is none, and VS Code's own for accepting. */
import * as vscode from 'vscode';
import { NO_SERVER, PANEL_COMMANDS, whyPage, type WhyAnswer } from '../panels/why.ts';
import { activeLanguage } from '../status/bar.ts';
import type { Handlers, Parts } from './parts.ts';
import { without } from './values.ts';

/** VS Code's own commands, which act on whatever suggestion is shown. */
const EDITOR_COMMANDS: Readonly<Record<string, string>> = {
    'intract.acceptWord': 'editor.action.inlineSuggest.acceptNextWord',
    'intract.acceptLine': 'editor.action.inlineSuggest.acceptNextLine',
    'intract.nextSuggestion': 'editor.action.inlineSuggest.showNext',
    'intract.previousSuggestion': 'editor.action.inlineSuggest.showPrevious',
};

export function completionCommands({ session, bar, late, panels }: Parts): Handlers {
    const editor = Object.entries(EDITOR_COMMANDS).map(([id, command]) => [id, () => void vscode.commands.executeCommand(command)]);
    return {
        ...Object.fromEntries(editor),
        'intract.suggest': () => {
            if (!late.ask()) {
                vscode.window.setStatusBarMessage(bar.presentation.sentence, 4000);
            }
        },
        'intract.whyNoSuggestion': async () => {
            const answer = foundHere(bar, session) ?? (await session.execute<WhyAnswer>('intract.why', activeUri()));
            panels.show('why', 'Why No Suggestion?', whyPage(answer), PANEL_COMMANDS);
        },
        'intract.toggleSuggestions': async () => {
            const { message } = await session.execute<{ message: string }>('intract.toggle');
            vscode.window.setStatusBarMessage(message, 4000);
        },
        'intract.toggleLanguage': async () => {
            const language = activeLanguage();
            if (language === undefined) {
                throw new Error('Open a file first: its language is switched on or off.');
            }
            const off = strings(configuration().get('completion.disabled_languages'));
            const next = off.includes(language) ? without(off, language) : [...off, language];
            await configuration().update('completion.disabled_languages', next, vscode.ConfigurationTarget.Global);
        },
        'intract.toggleWorkspace': async () => {
            if (vscode.workspace.workspaceFolders === undefined) {
                throw new Error('Open a folder first: the choice is kept in its settings.');
            }
            const enabled = configuration().get('completion.enabled') !== false;
            await configuration().update('completion.enabled', !enabled, vscode.ConfigurationTarget.Workspace);
            // What was switched by hand in this session stands above the settings.
            if (session.state.kind === 'running') {
                await session.execute('intract.toggle', { enabled: !enabled });
            }
            vscode.window.setStatusBarMessage(`Suggestions are ${enabled ? 'off' : 'on'} in this workspace.`, 4000);
        },
    };
}

/** Return the reason where it is not the server's to tell. */
function foundHere(bar: Parts['bar'], session: Parts['session']): WhyAnswer | undefined {
    if (session.state.kind !== 'running') {
        return { message: bar.presentation.sentence, reason: NO_SERVER };
    }
    if (vscode.workspace.getConfiguration('editor').get('inlineSuggest.enabled') === false) {
        return { message: "VS Code's setting editor.inlineSuggest.enabled is off: no extension can suggest anything." };
    }
    return undefined;
}

function activeUri(): Record<string, string> {
    const uri = vscode.window.activeTextEditor?.document.uri.toString();
    return uri === undefined ? {} : { uri };
}

function configuration(): vscode.WorkspaceConfiguration {
    return vscode.workspace.getConfiguration('intract');
}

function strings(value: unknown): string[] {
    return Array.isArray(value) ? value.filter((one): one is string => typeof one === 'string') : [];
}
