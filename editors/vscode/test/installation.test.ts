import assert from 'node:assert/strict';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { test, type TestContext } from 'node:test';
import { explain, install, InstallationCancelled, InstallationError, pipMessage, type Plan } from '../src/server/installation.ts';
import { run as runProcess, type Run } from '../src/server/processes.ts';

async function plan(context: TestContext): Promise<Plan> {
    const folder = await fs.mkdtemp(path.join(os.tmpdir(), 'intract-'));
    context.after(() => fs.rm(folder, { recursive: true, force: true }));
    return { directory: path.join(folder, 'storage', 'server'), pythons: ['old', 'new'], requirement: 'x.whl', constraints: 'c.txt', windows: false };
}

/** Pretends to be Python and pip; `pip` is how the installation goes. */
function machine(pip: { code: number; tail?: string }, calls: string[][] = []): Run {
    return async (command, args, _signal, onLine) => {
        calls.push([command, ...args]);
        if (args[0] === '-c') {
            return { code: command === 'old' ? 3 : 0, tail: '' };
        }
        if (args[1] === 'venv') {
            await fs.mkdir(path.join(args[2] ?? '', 'bin'), { recursive: true });
            return { code: 0, tail: '' };
        }
        onLine('Collecting numpy>=1');
        return { code: pip.code, tail: pip.tail ?? '' };
    };
}

test('the first Python that is new enough makes an environment, and pip installs the pinned wheel', async (context) => {
    const asked = await plan(context);
    const calls: string[][] = [];
    const told: string[] = [];
    const program = await install(asked, machine({ code: 0 }, calls), (message) => told.push(message), new AbortController().signal);
    assert.equal(program, path.join(asked.directory, 'bin', 'intract-lsp'));
    assert.deepEqual(calls[2], ['new', '-m', 'venv', asked.directory]);
    assert.deepEqual(calls[3]?.slice(-3), ['-c', 'c.txt', 'x.whl']);
    assert.ok(told.includes('Collecting numpy>=1'));
    await assert.rejects(fs.stat(`${asked.directory}.lock`));
});

test('a failure leaves nothing that looks like a server, and says what to do', async (context) => {
    const asked = await plan(context);
    const full = machine({ code: 1, tail: 'OSError: [Errno 28] No space left on device' });
    await assert.rejects(install(asked, full, () => undefined, new AbortController().signal), /The disk is full/);
    await assert.rejects(fs.stat(asked.directory));
    await assert.rejects(fs.stat(`${asked.directory}.lock`));
});

test('no Python, or only an old one, is said', async (context) => {
    const asked = { ...(await plan(context)), pythons: ['old'] };
    await assert.rejects(install(asked, machine({ code: 0 }), () => undefined, new AbortController().signal), /Only an older Python/);
});

test('two windows do not install at once, and a lock whose window is gone is taken', async (context) => {
    const asked = await plan(context);
    await fs.mkdir(path.dirname(asked.directory), { recursive: true });
    await fs.writeFile(`${asked.directory}.lock`, String(process.pid));
    const again = (): Promise<string> => install(asked, machine({ code: 0 }), () => undefined, new AbortController().signal);
    await assert.rejects(again(), /Another window/);
    await fs.writeFile(`${asked.directory}.lock`, '999999999');
    await again();
});

test('cancelling ends the program with what it started, and removes the half', async (context) => {
    const asked = { ...(await plan(context)), pythons: ['sh'] };
    const stop = new AbortController();
    const slow: Run = (_command, args, signal, onLine) =>
        args[0] === '-c' ? Promise.resolve({ code: 0, tail: '' }) : runProcess('sh', ['-c', 'echo begun; sleep 60 & wait'], signal, onLine);
    const began = Date.now();
    const noticing: Run = (command, args, signal, onLine) => slow(command, args, signal, (line) => {
        onLine(line);
        stop.abort();
    });
    await assert.rejects(install(asked, noticing, () => undefined, stop.signal), InstallationCancelled);
    assert.ok(Date.now() - began < 10_000);
});

test('what cannot be started is no success', async () => {
    const { code, tail } = await runProcess('/no/such/program', [], new AbortController().signal, () => undefined);
    assert.equal(code, 127);
    assert.match(tail, /ENOENT/);
});

test('sentences for what Python and pip say', () => {
    assert.match(explain('The virtual environment was not created because ensurepip is not available.', 'python3'), /python3-venv/);
    assert.match(explain('ERROR: No matching distribution found for x', 'python3'), /network/);
    assert.match(explain('a\nb\n', 'python3'), /\(b\)/);
    assert.ok(new InstallationError('x') instanceof Error);
    assert.equal(pipMessage('Downloading https://host/torch-2.whl (200 MB)'), 'Downloading torch-2.whl');
    assert.equal(pipMessage('Requirement already satisfied: x'), undefined);
});
