/** Offers to install the server, and shows the installation with a way to stop it. */
import fs from 'node:fs';
import path from 'node:path';
import * as vscode from 'vscode';
import { install, InstallationCancelled, InstallationError } from './installation.ts';
import { ownDirectory, text } from './locate.ts';
import { run } from './processes.ts';

const PYTHONS = ['python3', 'python', 'python3.14', 'python3.13', 'python3.12', 'python3.11', 'python3.10', 'py'];

/** Install the server into the extension's own storage. Return whether it is there now; the user was told why if not. */
export async function installServer(context: vscode.ExtensionContext, log: vscode.LogOutputChannel, ending: AbortSignal): Promise<boolean> {
    const python = text('server.python');
    const constraints = path.join(context.extensionPath, 'server', 'constraints.txt');
    const plan = {
        directory: ownDirectory(context),
        pythons: python === '' ? PYTHONS : [python],
        requirement: bundledWheel(context) ?? 'intract-lsp',
        ...(fs.existsSync(constraints) && { constraints }),
        windows: process.platform === 'win32',
    };
    try {
        await vscode.window.withProgress(
            { location: vscode.ProgressLocation.Notification, title: 'Installing the Intract server', cancellable: true },
            async (progress, token) => {
                const stop = new AbortController();
                token.onCancellationRequested(() => stop.abort());
                const signal = AbortSignal.any([stop.signal, ending]);
                await install(plan, run, (message) => {
                    log.info(`install: ${message}`);
                    progress.report({ message });
                }, signal);
            },
        );
        return true;
    } catch (error) {
        if (error instanceof InstallationCancelled) {
            return false;
        }
        const sentence = error instanceof InstallationError ? error.message : `The server could not be installed: ${String(error)}.`;
        log.error(sentence);
        const choice = await vscode.window.showErrorMessage(sentence, 'Try Again', 'Show Log');
        if (choice === 'Show Log') {
            log.show();
        }
        return choice === 'Try Again' && installServer(context, log, ending);
    }
}

/** Return the wheel of the server that came with the extension. */
function bundledWheel(context: vscode.ExtensionContext): string | undefined {
    const directory = path.join(context.extensionPath, 'server');
    const wheel = fs.existsSync(directory) ? fs.readdirSync(directory).find((name) => name.endsWith('.whl')) : undefined;
    return wheel && path.join(directory, wheel);
}
