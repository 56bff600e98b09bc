/** Registers every command of the table, with one way to tell of failures. */
import * as vscode from 'vscode';
import { completionCommands } from './completion.ts';
import { indexCommands } from './index.ts';
import { modelCommands } from './models.ts';
import type { Handler, Parts } from './parts.ts';
import { COMMANDS } from './table.ts';
import { trainingCommands } from './training.ts';

/** Return the registrations. Throws where a command of the table has no handler, or a handler no command. */
export function registerCommands(parts: Parts): vscode.Disposable[] {
    const handlers = new Map<string, Handler>(
        [completionCommands(parts), modelCommands(parts), indexCommands(parts), trainingCommands(parts)].flatMap((some) => Object.entries(some)),
    );
    if (handlers.size !== COMMANDS.length) {
        throw new Error('The table of commands and their handlers differ.');
    }
    return COMMANDS.map(({ id }) => {
        const handler = handlers.get(id);
        if (handler === undefined) {
            throw new Error(`The command ${id} has no handler.`);
        }
        return vscode.commands.registerCommand(id, (argument?: unknown) => reporting(handler, argument, parts));
    });
}

async function reporting(handler: Handler, argument: unknown, { log }: Parts): Promise<void> {
    try {
        await handler(argument);
    } catch (error) {
        const message = error instanceof Error ? error.message : String(error);
        log.error(message);
        const way = await vscode.window.showErrorMessage(message, 'Show Log');
        if (way !== undefined) {
            log.show();
        }
    }
}
