/** The server as the extension sees it: found, started, watched, started again, stopped. */
import * as vscode from 'vscode';
import type { LanguageClient } from 'vscode-languageclient/node';
import { coalesced, RestartPolicy } from './restarts.ts';
import { NoSuchServer } from './server/discovery.ts';
import { locate, programOf } from './server/locate.ts';
import { isTooOld, OLDEST_SERVER } from './server/version.ts';
import { declaredSettings, explicitSettings } from './settings/explicit.ts';
import type { SessionState } from './status/presentation.ts';
import type { StatusValues } from './status/values.ts';

/** Thrown by `execute` where there is no server to ask. */
export class NotRunning extends Error {
    constructor() {
        super('The Intract server is not running; click Intract in the status bar.');
    }
}

/** Where a crash leaves its one message; the buttons are offered with it. */
export type Complain = (message: string, ...ways: ('Restart' | 'Install' | 'Show Log' | 'Open Settings')[]) => void;

export class Session implements vscode.Disposable {
    state: SessionState = { kind: 'stopped' };
    status: StatusValues | undefined;
    /** Requests for a suggestion without an answer yet. */
    asking = 0;
    /** Whether the server is asked for suggestions as the user types. */
    offers = false;
    /** The server's commands. */
    announced: readonly string[] = [];
    /** The program that runs, for the status page. */
    program = '';

    readonly #changed = new vscode.EventEmitter<void>();
    /** Fires when anything above has changed. */
    readonly onDidChange = this.#changed.event;

    readonly #context: vscode.ExtensionContext;
    readonly #log: vscode.LogOutputChannel;
    readonly #complain: Complain;
    readonly #policy = new RestartPolicy();
    #client: LanguageClient | undefined;
    #timer: NodeJS.Timeout | undefined;
    #over = false;
    /** Said once a window; the status bar says it all the time. */
    #toldMissing = false;

    constructor(context: vscode.ExtensionContext, log: vscode.LogOutputChannel, complain: Complain) {
        this.#context = context;
        this.#log = log;
        this.#complain = complain;
    }

    /** Start the server, or start it anew; calls that come meanwhile are one. */
    readonly restart = coalesced(() => this.#restart());

    /** The user asks for a start: crashes of before are forgotten. */
    restartByHand(): Promise<void> {
        this.#policy.reset();
        return this.restart();
    }

    /** Run one of the server's commands. Throws `NotRunning`, or the server's error with its sentence. */
    async execute<Answer>(command: string, argument: Record<string, unknown> = {}): Promise<Answer> {
        const client = this.#client;
        if (client === undefined || this.state.kind !== 'running') {
            throw new NotRunning();
        }
        if (!this.announced.includes(command)) {
            throw new Error(`This server does not have ${command}; a newer version may.`);
        }
        return client.sendRequest<Answer>('workspace/executeCommand', { command, arguments: [argument] });
    }

    /** Tell the server something, if there is one. */
    notify(method: string, params: unknown): void {
        if (this.#client?.isRunning()) {
            void this.#client.sendNotification(method, params).catch((error: unknown) => this.#log.debug(String(error)));
        }
    }

    /** Send the settings as they are now. */
    sendSettings(): void {
        this.notify('workspace/didChangeConfiguration', { settings: { intract: this.#settings() } });
    }

    /** Make way for an installation; what follows it is a start. */
    async installing(): Promise<void> {
        await this.#end();
        this.#set({ kind: 'installing' });
    }

    /** Stop the server for good. */
    async stop(): Promise<void> {
        this.#over = true;
        await this.#end();
        this.#set({ kind: 'stopped' });
    }

    dispose(): void {
        clearTimeout(this.#timer);
        this.#changed.dispose();
    }

    async #restart(): Promise<void> {
        // Shown at once: the old server may take a moment to end.
        this.#set({ kind: 'starting' });
        await this.#end();
        if (this.#over) {
            return;
        }
        const found = this.#find();
        if (found === undefined) {
            return;
        }
        const program = programOf(found, this.#context);
        this.program = `${program.command} (${found.source})`;
        this.#log.info(`server: ${this.program} ${program.args.join(' ')}`);
        // Loaded here and not with the extension, whose activation the editor waits for.
        const { createClient } = await import('./client.ts');
        const client = createClient(program, this.#log, {
            settings: () => this.#settings(),
            ended: () => this.#crashed(client),
            asking: (change) => {
                this.asking += change;
                this.#changed.fire();
            },
            status: (status) => this.#heard(client, () => (this.status = status)),
            offers: () => this.#heard(client, () => (this.offers = true)),
        });
        this.#client = client;
        try {
            await client.start();
        } catch (error) {
            this.#log.error(`the server did not start: ${error instanceof Error ? error.message : String(error)}`);
            this.#crashed(client);
            return;
        }
        if (this.#client === client) {
            this.#started(client);
        }
    }

    /** Note what a server says, unless it is one that has just been left. */
    #heard(client: LanguageClient, note: () => void): void {
        if (this.#client === client) {
            note();
            this.#changed.fire();
        }
    }

    #find(): ReturnType<typeof locate> {
        try {
            const found = locate(this.#context);
            if (found === undefined) {
                this.#set({ kind: 'missing' });
                if (!this.#toldMissing) {
                    this.#toldMissing = true;
                    this.#complain('Intract needs its server, intract-lsp, which is not on this machine yet.', 'Install', 'Open Settings');
                }
            }
            return found;
        } catch (error) {
            if (!(error instanceof NoSuchServer)) {
                throw error;
            }
            this.#set({ kind: 'failed', message: error.message });
            this.#complain(error.message, 'Open Settings');
            return undefined;
        }
    }

    #started(client: LanguageClient): void {
        this.announced = client.initializeResult?.capabilities.executeCommandProvider?.commands ?? [];
        this.offers ||= Boolean(client.initializeResult?.capabilities.inlineCompletionProvider);
        this.#set({ kind: 'running' });
        const version = client.initializeResult?.serverInfo?.version;
        if (isTooOld(version)) {
            const told = `The Intract server ${version ?? 'of an unknown version'} is older than ${OLDEST_SERVER}, which this extension needs.`;
            this.#complain(told, 'Install', 'Open Settings');
        }
    }

    /** A server ended by itself: another is started after a while, or the user is told once that none is. */
    #crashed(client: LanguageClient): void {
        if (this.#client !== client || this.#over) {
            return;
        }
        this.#client = undefined;
        this.#forget();
        const delay = this.#policy.crashed(Date.now());
        if (delay === undefined) {
            const message = 'The Intract server ended five times within three minutes and is not started again.';
            this.#set({ kind: 'failed', message });
            this.#complain(message, 'Restart', 'Show Log');
            return;
        }
        this.#log.warn(`the server ended; it is started again in ${delay} ms`);
        this.#set({ kind: 'restarting', seconds: delay / 1000 });
        this.#timer = setTimeout(() => void this.restart(), delay);
    }

    async #end(): Promise<void> {
        clearTimeout(this.#timer);
        const client = this.#client;
        this.#client = undefined;
        this.#forget();
        if (client?.needsStop()) {
            await client.stop().catch((error: unknown) => this.#log.debug(`stopping: ${String(error)}`));
        }
    }

    #forget(): void {
        this.status = undefined;
        this.announced = [];
        this.offers = false;
        this.program = '';
    }

    #settings(): unknown {
        const configuration = vscode.workspace.getConfiguration('intract');
        return explicitSettings(declaredSettings(this.#context.extension.packageJSON), (name) => configuration.inspect(name));
    }

    #set(state: SessionState): void {
        this.state = state;
        this.#changed.fire();
    }
}
