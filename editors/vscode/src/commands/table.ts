/**
 * Every command of the extension, and which of the server's it leads to.
 *
 * package.json's commands and menus are generated from this list (scripts/generate.mjs), and a test compares it with
 * what the server announces.
 */

export interface CommandEntry {
    /** Name in VS Code. Differs from the server's, whose names the language client registers itself. */
    readonly id: string;
    readonly title: string;
    /** The server's command that it runs, if any. */
    readonly server?: string;
    /** For the buttons of views. */
    readonly icon?: string;
    /** Part of fine-tuning: shown only where the server has it, and never in an untrusted workspace. */
    readonly training?: boolean;
    /** Needs an adapter chosen in the view; without one the user is asked. */
    readonly ofAdapter?: boolean;
    /** Has something to say also while no server runs; others that lead to one are not offered then. */
    readonly explains?: boolean;
}

/** Runs by itself when a suggestion is accepted; nothing that a user calls. */
export const ACCEPTED_COMMAND = 'intract.accepted';

export const COMMANDS: readonly CommandEntry[] = [
    { id: 'intract.openMenu', title: 'Open Menu' },
    { id: 'intract.showStatus', title: 'Show Status', server: 'intract.status', explains: true },
    { id: 'intract.whyNoSuggestion', title: 'Why No Suggestion?', server: 'intract.why', explains: true },
    { id: 'intract.toggleSuggestions', title: 'Toggle Suggestions', server: 'intract.toggle' },
    { id: 'intract.toggleLanguage', title: 'Toggle Suggestions for This Language' },
    { id: 'intract.toggleWorkspace', title: 'Toggle Suggestions for This Workspace' },
    { id: 'intract.chooseModel', title: 'Choose Model', server: 'intract.selectModel' },
    { id: 'intract.clearCaches', title: 'Clear Cached Suggestions', server: 'intract.clearCache' },
    { id: 'intract.rebuildIndex', title: 'Rebuild Index', server: 'intract.reindex' },
    { id: 'intract.showIndex', title: 'Show Index', server: 'intract.indexStatus' },
    { id: 'intract.searchIndex', title: 'Search Index', server: 'intract.searchWorkspace' },
    { id: 'intract.startFineTune', title: 'Fine-Tune on This Project', server: 'intract.fineTune', icon: 'play', training: true },
    { id: 'intract.cancelFineTune', title: 'Cancel Fine-Tuning', server: 'intract.fineTune.cancel', icon: 'debug-stop', training: true },
    { id: 'intract.showFineTune', title: 'Show Fine-Tuning Status', server: 'intract.fineTune.status', training: true },
    { id: 'intract.openReport', title: 'Open Fine-Tuning Report', server: 'intract.fineTune.report', icon: 'graph', training: true },
    { id: 'intract.refreshAdapters', title: 'Refresh Adapters', server: 'intract.adapters.list', icon: 'refresh', training: true },
    { id: 'intract.promoteAdapter', title: 'Use Adapter', server: 'intract.adapters.promote', icon: 'check', training: true, ofAdapter: true },
    { id: 'intract.rollBackAdapter', title: 'Roll Back to the Adapter Before', server: 'intract.adapters.rollback', icon: 'discard', training: true },
    { id: 'intract.removeAdapter', title: 'Remove Adapter', server: 'intract.adapters.remove', icon: 'trash', training: true, ofAdapter: true },
    { id: 'intract.exportAdapter', title: 'Export Adapter', server: 'intract.adapters.export', icon: 'export', training: true, ofAdapter: true },
    { id: 'intract.forgetFile', title: 'Forget a File in Adapters', server: 'intract.adapters.forget', training: true },
    { id: 'intract.suggest', title: 'Suggest Here' },
    { id: 'intract.acceptWord', title: 'Accept Next Word of the Suggestion' },
    { id: 'intract.acceptLine', title: 'Accept Next Line of the Suggestion' },
    { id: 'intract.nextSuggestion', title: 'Show Next Suggestion' },
    { id: 'intract.previousSuggestion', title: 'Show Previous Suggestion' },
    { id: 'intract.installServer', title: 'Install Server' },
    { id: 'intract.restartServer', title: 'Restart Server' },
    { id: 'intract.showLog', title: 'Show Log' },
    { id: 'intract.openSettings', title: 'Open Settings' },
];

/** Return the server's commands that no command of ours leads to. */
export function unreachable(announced: readonly string[]): string[] {
    const reached = new Set(COMMANDS.map((entry) => entry.server));
    return announced.filter((name) => name !== ACCEPTED_COMMAND && !reached.has(name));
}
