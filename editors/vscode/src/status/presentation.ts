/** What the status bar shows, for every state. Pure, so that each state is tested. */
import { adapterOf, isTraining, type StatusValues } from './values.ts';

/** Where the server's process stands. */
export type SessionState =
    | { readonly kind: 'starting' }
    | { readonly kind: 'running' }
    | { readonly kind: 'stopped' }
    | { readonly kind: 'missing' }
    | { readonly kind: 'installing' }
    | { readonly kind: 'restarting'; readonly seconds: number }
    | { readonly kind: 'failed'; readonly message: string };

export interface View {
    readonly session: SessionState;
    readonly status?: StatusValues | undefined;
    /** Whether the server is asked for suggestions yet. */
    readonly offers: boolean;
    /** Requests without an answer yet. */
    readonly asking: number;
    /** Language of the active editor, if there is one that gets suggestions. */
    readonly language?: string | undefined;
}

export type Kind =
    | 'loading' | 'ready' | 'thinking' | 'indexing' | 'training' | 'paused' | 'language-off' | 'error' | 'missing' | 'stopped';

export interface Presentation {
    readonly kind: Kind;
    readonly text: string;
    /** A sentence for the tooltip and the menu. */
    readonly sentence: string;
    readonly severity: 'none' | 'warning' | 'error';
}

/** Return what to show. What needs the user's attention comes before what is merely going on. */
export function present(view: View): Presentation {
    return ofSession(view.session) ?? ofEngine(view) ?? ofSwitches(view) ?? ofWork(view);
}

function ofSession(session: SessionState): Presentation | undefined {
    switch (session.kind) {
        case 'running':
            return undefined;
        case 'starting':
            return shown('loading', '$(loading~spin) Intract', 'The server is starting.');
        case 'installing':
            return shown('loading', '$(loading~spin) Intract: installing', 'The server is being installed.');
        case 'restarting':
            return shown('loading', '$(loading~spin) Intract', `The server ended; it is started again in ${session.seconds} s.`);
        case 'missing':
            return shown('missing', '$(warning) Intract: no server', 'The program intract-lsp was not found; click to install it.', 'warning');
        case 'stopped':
            return shown('stopped', '$(circle-slash) Intract: stopped', 'The server is not running; click to start it.', 'warning');
        case 'failed':
            return shown('error', '$(error) Intract', session.message, 'error');
    }
}

function ofEngine({ status, offers }: View): Presentation | undefined {
    const engine = status?.engine;
    switch (engine?.state) {
        case undefined:
            return shown('loading', '$(loading~spin) Intract', 'The server is starting.');
        case 'failed':
            return shown('error', '$(error) Intract: model', engine.message || 'The model could not be loaded.', 'error');
        case 'loading': {
            const percent = percentage(engine.fraction);
            return shown('loading', `$(loading~spin) Intract${percent}`, engine.message || `Loading ${engine.model ?? 'the model'}.`);
        }
        case 'resting': {
            const percent = percentage(status?.training?.fraction);
            const sentence = engine.message || 'Completions pause until the fine-tuning run is over.';
            return shown('training', `$(mortar-board) Intract training${percent}: no suggestions`, sentence);
        }
        case 'absent':
            return shown('error', '$(warning) Intract: no model', engine.message || 'No model is loaded; choose one.', 'warning');
        default:
            return offers ? undefined : shown('loading', '$(loading~spin) Intract', 'The server is starting.');
    }
}

function ofSwitches({ status, language }: View): Presentation | undefined {
    if (status?.enabled === false) {
        return shown('paused', '$(debug-pause) Intract: paused', 'Suggestions are switched off.');
    }
    if (language !== undefined && status?.disabledLanguages?.includes(language)) {
        return shown('language-off', `$(circle-slash) Intract: off for ${language}`, `Suggestions are off for ${language}.`);
    }
    return undefined;
}

function ofWork({ status, asking }: View): Presentation {
    const training = isTraining(status) ? status?.training : undefined;
    const percent = training ? ` training${percentage(training.fraction) || ' …'}` : '';
    if (asking > 0) {
        return shown('thinking', `$(loading~spin) Intract${percent}`, 'The model is working on a suggestion.');
    }
    if (training) {
        return shown('training', `$(mortar-board) Intract${percent}`, training.message || 'A fine-tuning run is going on.');
    }
    const index = status?.index;
    if (index?.state === 'indexing' || index?.state === 'scanning') {
        const left = index.queue ? `${index.queue.toLocaleString('en')} files are still to be read.` : 'The folders are being looked through.';
        return shown('indexing', '$(sync~spin) Intract: indexing', left);
    }
    const adapter = adapterOf(status);
    const model = status?.engine?.model ?? '';
    return shown('ready', '$(sparkle) Intract', `${model}${adapter ? ` with ${adapter}` : ''} is ready.`);
}

function shown(kind: Kind, text: string, sentence: string, severity: Presentation['severity'] = 'none'): Presentation {
    return { kind, text, sentence, severity };
}

/** Return ` 42%`, or nothing where the fraction is not known. */
function percentage(fraction: number | null | undefined): string {
    return typeof fraction === 'number' ? ` ${Math.round(Math.min(1, Math.max(0, fraction)) * 100)}%` : '';
}

/** Return how long ago something was, from a time in seconds since 1970. */
export function age(updatedAt: number | null | undefined, nowMs: number): string {
    if (typeof updatedAt !== 'number') {
        return 'never';
    }
    const seconds = Math.max(0, Math.round(nowMs / 1000 - updatedAt));
    const units: [number, string][] = [[86_400, 'd'], [3_600, 'h'], [60, 'min']];
    const unit = units.find(([size]) => seconds >= size);
    return unit ? `${Math.floor(seconds / unit[0])} ${unit[1]} ago` : `${seconds} s ago`;
}
