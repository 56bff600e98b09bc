/** Where the extension begins and ends, and how its parts hang together. */
import * as vscode from 'vscode';
import { registerCommands } from './commands/register.ts';
import { ContextKeys } from './contextKeys.ts';
import { CursorReports } from './cursor.ts';
import { LateSuggestions } from './late.ts';
import { Panels } from './panels/panel.ts';
import { installServer } from './server/offer.ts';
import { Session, type Complain } from './session.ts';
import { StatusBar } from './status/bar.ts';
import { AdapterTree } from './views/adapters.ts';

/** Set by the bundle's first line: milliseconds at which loading began. */
declare const intractLoadedAt: number;

/** VS Code calls this once; it returns how the extension is to be ended. */
export function activate(context: vscode.ExtensionContext): void {
    const log = vscode.window.createOutputChannel('Intract', { log: true });
    const ending = new AbortController();
    const session = new Session(context, log, complaints(log));
    const bar = new StatusBar(session);
    const late = new LateSuggestions(session, bar);
    const panels = new Panels();
    const adapters = new AdapterTree(session);
    const install = async (): Promise<void> => {
        await session.installing();
        await installServer(context, log, ending.signal);
        await session.restartByHand();
    };
    const parts = { context, session, bar, late, panels, adapters, log, installServer: install };
    context.subscriptions.push(
        ...registerCommands(parts),
        { dispose: () => ending.abort() },
        log, bar, late, panels, adapters, session,
        new CursorReports(session),
        ...listeners(session),
    );
    stopSession = () => session.stop();
    // In a turn of its own: the editor is to wait neither for a process nor for what talks to it.
    setImmediate(() => void session.restart());
    log.info(`activated in ${Math.round(performance.now() - intractLoadedAt)} ms`);
}

/** VS Code waits for this when the window closes; what is half installed is removed at the next attempt. */
export async function deactivate(): Promise<void> {
    await stopSession?.();
}

/** The one thing kept outside of `activate`, since `deactivate` is handed nothing. */
let stopSession: (() => Promise<void>) | undefined;

function listeners(session: Session): vscode.Disposable[] {
    return [
        vscode.workspace.onDidChangeConfiguration((event) => {
            if (event.affectsConfiguration('intract.server')) {
                void session.restartByHand();
            } else if (event.affectsConfiguration('intract')) {
                session.sendSettings();
            }
        }),
        // What the workspace says of the server counts from now on.
        vscode.workspace.onDidGrantWorkspaceTrust(() => void session.restartByHand()),
        new ContextKeys(session),
    ];
}

function complaints(log: vscode.LogOutputChannel): Complain {
    const commands = {
        'Restart': 'intract.restartServer', 'Install': 'intract.installServer', 'Show Log': 'intract.showLog', 'Open Settings': 'intract.openSettings',
    };
    return (message, ...ways) => {
        log.error(message);
        void vscode.window.showErrorMessage(message, ...ways).then((way) => way && vscode.commands.executeCommand(commands[way]));
    };
}
