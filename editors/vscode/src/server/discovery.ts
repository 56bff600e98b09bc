/** Finds the program intract-lsp. Pure: what it looks at is handed in. */
import path from 'node:path';

export type Source = 'setting' | 'workspace' | 'path' | 'own';

export interface Found {
    readonly source: Source;
    readonly command: string;
}

export interface Surroundings {
    /** The setting `intract.server.path`; empty where it is not set. */
    readonly setting: string;
    /** Folders of the workspace, as paths on this machine. */
    readonly folders: readonly string[];
    /** Whether the workspace may say which programs run. */
    readonly trusted: boolean;
    readonly environment: Readonly<Record<string, string | undefined>>;
    readonly home: string;
    /** Where the extension keeps its own copy of the server. */
    readonly own: string;
    readonly windows: boolean;
    /** Whether a path is a file that can be run. */
    readonly isProgram: (file: string) => boolean;
}

/** Thrown where the setting names no program: nothing else is tried then, since the user has decided. */
export class NoSuchServer extends Error {}

/** Return the first server found: setting, workspace's environment, `PATH`, uv's and pipx's place, the extension's own. */
export function findServer(at: Surroundings): Found | undefined {
    const setting = at.setting.trim();
    if (setting !== '') {
        return { source: 'setting', command: fromSetting(at, setting) };
    }
    for (const [source, file] of candidates(at)) {
        if (at.isProgram(file)) {
            return { source, command: file };
        }
    }
    return undefined;
}

/** Return what the server is told where the workspace is not trusted: its own files must not have it learn by itself. */
export function confinement(trusted: boolean): readonly string[] {
    return trusted ? [] : ['--set', 'training.enabled=false'];
}

/** Return where an environment at `directory` keeps the server. */
export function programIn(directory: string, windows: boolean): string {
    return windows ? path.join(directory, 'Scripts', 'intract-lsp.exe') : path.join(directory, 'bin', 'intract-lsp');
}

function fromSetting(at: Surroundings, setting: string): string {
    const expanded = setting.startsWith('~') ? path.join(at.home, setting.slice(1)) : setting;
    const places = path.isAbsolute(expanded) ? [expanded] : at.trusted ? at.folders.map((one) => path.join(one, expanded)) : [];
    const found = places.find(at.isProgram);
    if (found === undefined) {
        throw new NoSuchServer(`The setting intract.server.path names no program: ${setting}.`);
    }
    return found;
}

function* candidates(at: Surroundings): Generator<[Source, string]> {
    if (at.trusted) {
        for (const folder of at.folders) {
            for (const name of ['.venv', 'venv']) {
                yield ['workspace', programIn(path.join(folder, name), at.windows)];
            }
        }
    }
    const name = at.windows ? 'intract-lsp.exe' : 'intract-lsp';
    const directories = (at.environment['PATH'] ?? at.environment['Path'] ?? '').split(at.windows ? ';' : ':');
    for (const directory of [...directories, path.join(at.home, '.local', 'bin')]) {
        // A relative entry would mean the folder that is open.
        if (path.isAbsolute(directory)) {
            yield ['path', path.join(directory, name)];
        }
    }
    yield ['own', programIn(at.own, at.windows)];
}
