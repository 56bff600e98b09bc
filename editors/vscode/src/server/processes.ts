/** Runs a program to its end, with all that it starts, and ends it when asked to. */
import { spawn } from 'node:child_process';

export interface Ended {
    readonly code: number;
    /** The last lines that it wrote to either stream. */
    readonly tail: string;
}

export type Run = (command: string, args: readonly string[], signal: AbortSignal, onLine: (line: string) => void) => Promise<Ended>;

const TAIL_LINES = 12;

/** Run a program; `code` is 127 where it could not be started, and -1 where the signal ended it. */
export const run: Run = (command, args, signal, onLine) =>
    new Promise((resolve) => {
        const lines: string[] = [];
        const posix = process.platform !== 'win32';
        // In a group of its own, so that pip's children end with it.
        const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], detached: posix, windowsHide: true });
        const take = (chunk: Buffer): void => {
            for (const line of chunk.toString('utf8').split(/\r?\n|\r/)) {
                if (line.trim() !== '') {
                    lines.push(line);
                    lines.splice(0, lines.length - TAIL_LINES);
                    onLine(line.trim());
                }
            }
        };
        const abort = (): void => {
            if (child.pid !== undefined) {
                endGroup(child.pid, posix);
            }
        };
        const end = (code: number): void => {
            signal.removeEventListener('abort', abort);
            resolve({ code: signal.aborted ? -1 : code, tail: lines.join('\n') });
        };
        child.stdout.on('data', take);
        child.stderr.on('data', take);
        child.on('error', (error) => {
            lines.push(error.message);
            end(127);
        });
        child.on('close', (code) => end(code ?? -1));
        signal.addEventListener('abort', abort);
        if (signal.aborted) {
            abort();
        }
    });

function endGroup(pid: number, posix: boolean): void {
    try {
        if (posix) {
            process.kill(-pid, 'SIGTERM');
        } else {
            spawn('taskkill', ['/pid', String(pid), '/t', '/f'], { windowsHide: true });
        }
    } catch {
        // It has ended by itself.
    }
}
