/** The language client: one server process, with what we add to the protocol's usual traffic. */
import readline from 'node:readline';
import * as vscode from 'vscode';
import {
    CloseAction, ErrorAction, LanguageClient, RevealOutputChannelOn, type LanguageClientOptions,
} from 'vscode-languageclient/node';
import { isServed, SELECTOR } from './documents.ts';
import { logLine } from './server/logLine.ts';
import type { StatusValues } from './status/values.ts';

export interface ClientHooks {
    /** The settings that the server is to start with. */
    readonly settings: () => unknown;
    /** The process ended, or never came to answer. Called at most once a client. */
    readonly ended: () => void;
    /** The number of unanswered requests for a suggestion changed. */
    readonly asking: (change: 1 | -1) => void;
    readonly status: (status: StatusValues) => void;
    /** From now on VS Code asks the server for suggestions; what was typed before is not asked about. */
    readonly offers: () => void;
}

const INLINE_COMPLETION = 'textDocument/inlineCompletion';

export interface Program {
    readonly command: string;
    readonly args: readonly string[];
    readonly cwd: string;
}

/** Leaves it to the session to tell of failures: a server that ends while it starts would be told of three times. */
class QuietClient extends LanguageClient {
    override error(message: string, data?: unknown): void {
        super.error(message, data, false);
    }
}

/** Return a client that is not started yet. It never starts its server again by itself. */
export function createClient(program: Program, log: vscode.LogOutputChannel, hooks: ClientHooks): LanguageClient {
    let ended = false;
    const options: LanguageClientOptions = {
        documentSelector: SELECTOR,
        outputChannel: log,
        revealOutputChannelOn: RevealOutputChannelOn.Never,
        // The client would log all that comes from there as errors.
        stdioOptions: {
            stdout: (stream) => readline.createInterface(stream).on('line', (line) => log.info(line)),
            stderr: (stream) => readline.createInterface(stream).on('line', (line) => {
                const { level, text } = logLine(line);
                log[level](text);
            }),
        },
        initializationOptions: hooks.settings,
        initializationFailedHandler: () => false,
        errorHandler: {
            error: () => ({ action: ErrorAction.Continue, handled: true }),
            closed: () => {
                if (!ended) {
                    ended = true;
                    hooks.ended();
                }
                return { action: CloseAction.DoNotRestart, handled: true };
            },
        },
        middleware: {
            handleRegisterCapability: async (params, next) => {
                await next(params, new vscode.CancellationTokenSource().token);
                if (params.registrations.some(({ method }) => method === INLINE_COMPLETION)) {
                    hooks.offers();
                }
            },
            provideInlineCompletionItems: async (document, position, context, token, next) => {
                // The server asks for all documents; what it was never sent needs no round trip.
                if (!isServed(document.uri.scheme)) {
                    return null;
                }
                hooks.asking(1);
                try {
                    return await next(document, position, context, token);
                } finally {
                    hooks.asking(-1);
                }
            },
        },
    };
    const { command, args, cwd } = program;
    const client = new QuietClient('intract', 'Intract', { command, args: [...args], options: { cwd } }, options);
    client.onNotification('intract/status', hooks.status);
    return client;
}
