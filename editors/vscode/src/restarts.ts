/** When a server that ended by itself is started again. */

const WINDOW_MS = 3 * 60_000;
const MOST_CRASHES = 5;
const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 8_000;

/** Counts crashes: each further one waits longer, and after five within three minutes it gives up. */
export class RestartPolicy {
    #crashes: number[] = [];

    /** Note a crash at a time in milliseconds; return how long to wait before a new start, or nothing to give up. */
    crashed(now: number): number | undefined {
        this.#crashes = this.#crashes.filter((time) => now - time < WINDOW_MS);
        this.#crashes.push(now);
        if (this.#crashes.length >= MOST_CRASHES) {
            return undefined;
        }
        return Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** (this.#crashes.length - 1));
    }

    /** The user asked for a start: what was before does not count. */
    reset(): void {
        this.#crashes = [];
    }
}

/**
 * Run one thing at a time; calls that come while one waits join it.
 *
 * Ten changes of settings in a row give two restarts at most: the one under way and one that sees them all.
 */
export function coalesced(run: () => Promise<void>): () => Promise<void> {
    let running: Promise<void> | undefined;
    let next: Promise<void> | undefined;
    const start = (): Promise<void> => {
        running = run().finally(() => (running = undefined));
        return running;
    };
    return () => {
        if (running === undefined) {
            return start();
        }
        const again = (): Promise<void> => {
            next = undefined;
            return start();
        };
        next ??= running.then(again, again);
        return next;
    };
}
