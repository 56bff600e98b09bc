/** What a click on the status bar offers, by state. */
import type { Kind } from './presentation.ts';

export interface MenuEntry {
    readonly label: string;
    readonly command: string;
}

export interface MenuState {
    readonly kind: Kind;
    readonly language: string | undefined;
    readonly languageOff: boolean;
    readonly paused: boolean;
    /** Whether a folder is open, whose settings the choice can be kept in, and what they say now. */
    readonly workspace: 'none' | 'on' | 'off';
    /** Whether fine-tuning is possible: the server has it and the workspace is trusted. */
    readonly canTrain: boolean;
    readonly training: boolean;
}

/** Return the entries, what the state asks for first. */
export function menuEntries(state: MenuState): MenuEntry[] {
    const log = { label: '$(output) Show log', command: 'intract.showLog' };
    const restart = { label: '$(debug-restart) Restart server', command: 'intract.restartServer' };
    const settings = { label: '$(gear) Settings', command: 'intract.openSettings' };
    switch (state.kind) {
        case 'missing':
            return [{ label: '$(cloud-download) Install server', command: 'intract.installServer' }, restart, settings, log];
        case 'stopped':
            return [restart, settings, log];
        case 'error':
            return [restart, { label: '$(symbol-misc) Choose model', command: 'intract.chooseModel' }, log, settings];
    }
    return [
        { label: state.paused ? '$(play) Switch suggestions on' : '$(debug-pause) Pause suggestions', command: 'intract.toggleSuggestions' },
        ...(state.language === undefined ? [] : [{
            label: `$(code) Switch ${state.languageOff ? 'on' : 'off'} for ${state.language}`,
            command: 'intract.toggleLanguage',
        }]),
        ...(state.workspace === 'none' ? [] : [{
            label: `$(root-folder) Switch ${state.workspace === 'off' ? 'on' : 'off'} for this workspace`,
            command: 'intract.toggleWorkspace',
        }]),
        { label: '$(question) Why no suggestion?', command: 'intract.whyNoSuggestion' },
        { label: '$(symbol-misc) Choose model', command: 'intract.chooseModel' },
        { label: '$(search) Search index', command: 'intract.searchIndex' },
        ...trainingEntries(state),
        { label: '$(info) Show status', command: 'intract.showStatus' },
        restart,
        settings,
        log,
    ];
}

function trainingEntries(state: MenuState): MenuEntry[] {
    if (!state.canTrain) {
        return [];
    }
    return state.training
        ? [{ label: '$(debug-stop) Cancel fine-tuning', command: 'intract.cancelFineTune' }]
        : [{ label: '$(mortar-board) Fine-tune on this project', command: 'intract.startFineTune' }];
}
