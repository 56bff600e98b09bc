/** What the server says of itself in `intract/status`; everything is optional, since servers differ in age. */

export interface EngineValues {
    readonly state?: 'absent' | 'loading' | 'ready' | 'busy' | 'resting' | 'failed';
    readonly model?: string;
    readonly message?: string;
    readonly fraction?: number | null;
    readonly device?: string;
    readonly precision?: string;
    readonly adapter?: string;
}

export interface IndexValues {
    readonly state?: 'idle' | 'scanning' | 'indexing' | 'failed';
    readonly files?: number;
    readonly queue?: number;
    readonly updatedAt?: number | null;
    readonly message?: string;
}

export interface TrainingValues {
    readonly state?: string;
    readonly run?: string;
    readonly fraction?: number | null;
    readonly message?: string;
}

export interface StatusValues {
    readonly engine?: EngineValues;
    readonly model?: { readonly adapter?: string | null };
    readonly enabled?: boolean;
    readonly disabledLanguages?: readonly string[];
    readonly index?: IndexValues | null;
    readonly training?: TrainingValues | null;
    readonly lastTimings?: Readonly<Record<string, number>> | null;
    readonly shownMilliseconds?: { readonly p50: number; readonly p95: number } | null;
    readonly accepted?: number;
    readonly answered?: number;
}

const RUNNING = new Set(['queued', 'running', 'evaluating', 'paused']);

/** Return whether a run is under way. */
export function isTraining(status: StatusValues | undefined): boolean {
    return RUNNING.has((status?.training?.state ?? '').toLowerCase());
}

/** Return the id of the adapter that serves, or an empty text. */
export function adapterOf(status: StatusValues | undefined): string {
    return status?.model?.adapter ?? status?.engine?.adapter ?? '';
}
