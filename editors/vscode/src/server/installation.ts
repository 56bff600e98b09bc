/** Installs the server into a private virtual environment of the extension. */
import fs from 'node:fs/promises';
import path from 'node:path';
import { programIn } from './discovery.ts';
import type { Run } from './processes.ts';

export interface Plan {
    /** Where the environment is made; what an attempt that was broken off left there is removed. */
    readonly directory: string;
    /** Pythons to try, in order. */
    readonly pythons: readonly string[];
    /** What pip is to install: a wheel, a folder or a name. */
    readonly requirement: string;
    /** A file of pinned versions, if there is one. */
    readonly constraints?: string;
    readonly windows: boolean;
}

export type Report = (message: string) => void;

/** Something that stands in the way, in a sentence for the user that says what to do. */
export class InstallationError extends Error {}

/** The user, or the end of the window, stopped it. */
export class InstallationCancelled extends Error {}

/** The server, torch and the rest; measured on Linux. */
const NEEDED_BYTES = 4 * 2 ** 30;

const PYTHON_PROBE = 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else 3)';

/** Install and return the server's program. Throws `InstallationError` or `InstallationCancelled`. */
export async function install(plan: Plan, run: Run, report: Report, signal: AbortSignal): Promise<string> {
    await fs.mkdir(path.dirname(plan.directory), { recursive: true });
    const release = await lock(`${plan.directory}.lock`);
    try {
        return await installLocked(plan, run, report, signal);
    } finally {
        await release();
    }
}

async function installLocked(plan: Plan, run: Run, report: Report, signal: AbortSignal): Promise<string> {
    await expectSpace(path.dirname(plan.directory));
    report('Looking for Python');
    const python = await findPython(plan.pythons, run, signal);
    await fs.rm(plan.directory, { recursive: true, force: true });
    try {
        report('Making a virtual environment');
        const made = await run(python, ['-m', 'venv', plan.directory], signal, () => undefined);
        expectDone(made.code, made.tail, signal, python);
        const own = plan.windows ? path.join(plan.directory, 'Scripts', 'python.exe') : path.join(plan.directory, 'bin', 'python');
        const pins = plan.constraints === undefined ? [] : ['-c', plan.constraints];
        const pip = ['-m', 'pip', 'install', '--disable-pip-version-check', '--no-input', '--progress-bar', 'off'];
        const installed = await run(own, [...pip, ...pins, plan.requirement], signal, (line) => reportPip(line, report));
        expectDone(installed.code, installed.tail, signal, python);
    } catch (error) {
        // Half an environment must not be found as a server later.
        await fs.rm(plan.directory, { recursive: true, force: true, maxRetries: 3 });
        throw error;
    }
    return programIn(plan.directory, plan.windows);
}

/** Return pip's line as people read it, or nothing where it says nothing new. */
export function pipMessage(line: string): string | undefined {
    const match = /^(Collecting|Downloading|Processing|Installing collected packages)\b:?\s*(\S*)/.exec(line);
    if (match?.[1] === undefined) {
        return undefined;
    }
    const what = (match[2] ?? '').split(/[\\/]/).pop() ?? '';
    return match[1].startsWith('Installing') ? 'Unpacking the packages' : `${match[1]} ${what}`;
}

function reportPip(line: string, report: Report): void {
    const message = pipMessage(line);
    if (message !== undefined) {
        report(message);
    }
}

async function findPython(pythons: readonly string[], run: Run, signal: AbortSignal): Promise<string> {
    let old = false;
    for (const python of pythons) {
        const { code } = await run(python, ['-c', PYTHON_PROBE], signal, () => undefined);
        if (signal.aborted) {
            throw new InstallationCancelled();
        }
        if (code === 0) {
            return python;
        }
        old ||= code === 3;
    }
    const found = old ? 'Only an older Python was found' : 'No Python was found';
    throw new InstallationError(`${found}: install Python 3.10 or newer, or name one in the setting intract.server.python.`);
}

function expectDone(code: number, tail: string, signal: AbortSignal, python: string): void {
    if (signal.aborted) {
        throw new InstallationCancelled();
    }
    if (code !== 0) {
        throw new InstallationError(explain(tail, python));
    }
}

/** Return a sentence for what Python or pip wrote before it failed. */
export function explain(tail: string, python: string): string {
    if (/ensurepip|No module named '?venv/i.test(tail)) {
        return `${python} cannot make virtual environments: install its venv package (on Debian: apt install python3-venv) and try again.`;
    }
    if (/No space left|ENOSPC|Errno 28/i.test(tail)) {
        return 'The disk is full: free about 4 GB and try again.';
    }
    if (/No matching distribution|ConnectionError|Temporary failure|timed out|Could not fetch/i.test(tail)) {
        return "pip could not get the packages: check the network and pip's index settings, then try again.";
    }
    const last = tail.split('\n').findLast((line) => line.trim() !== '') ?? 'it said nothing';
    return `The server could not be installed (${last.trim().slice(0, 200)}); the log has more.`;
}

async function expectSpace(directory: string): Promise<void> {
    const { bavail, bsize } = await fs.statfs(directory);
    const free = bavail * bsize;
    if (free < NEEDED_BYTES) {
        throw new InstallationError(`The server needs about 4 GB of disk and ${directory} has ${(free / 1e9).toFixed(1)} GB left: free some and try again.`);
    }
}

/** Take the lock of the installation: two windows must not install into one directory. Return how to give it back. */
async function lock(file: string): Promise<() => Promise<void>> {
    for (const last of [false, true]) {
        try {
            await fs.writeFile(file, String(process.pid), { flag: 'wx' });
            return () => fs.rm(file, { force: true });
        } catch (error) {
            if ((error as NodeJS.ErrnoException).code !== 'EEXIST') {
                throw new InstallationError(`${path.dirname(file)} cannot be written: ${(error as Error).message}.`);
            }
            if (last || isAlive(Number(await fs.readFile(file, 'utf8').catch(() => '0')))) {
                throw new InstallationError('Another window is installing the server: wait until it has finished.');
            }
            await fs.rm(file, { force: true });
        }
    }
    throw new InstallationError('The lock of the installation could not be taken: try again.');
}

function isAlive(pid: number): boolean {
    try {
        return pid > 0 && process.kill(pid, 0);
    } catch {
        return false;
    }
}
