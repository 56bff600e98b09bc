import assert from 'node:assert/strict';
import { test } from 'node:test';
import { confinement, findServer, NoSuchServer, type Surroundings } from '../src/server/discovery.ts';
import { isTooOld } from '../src/server/version.ts';

const EVERYTHING = ['/w/.venv/bin/intract-lsp', '/w/venv/bin/intract-lsp', '/bin1/intract-lsp', '/h/.local/bin/intract-lsp', '/own/bin/intract-lsp'];

function surroundings(programs: readonly string[], changes: Partial<Surroundings> = {}): Surroundings {
    return {
        setting: '', folders: ['/w'], trusted: true, environment: { PATH: '/bin0:/bin1' }, home: '/h', own: '/own', windows: false,
        isProgram: (file) => programs.includes(file), ...changes,
    };
}

test('the order is workspace, PATH, ~/.local/bin, own', () => {
    const left = [...EVERYTHING];
    const found: (string | undefined)[] = [];
    while (left.length > 0) {
        const server = findServer(surroundings(left));
        found.push(server?.command);
        left.splice(left.indexOf(server?.command ?? ''), 1);
    }
    assert.deepEqual(found, EVERYTHING);
    assert.equal(findServer(surroundings([])), undefined);
});

test('the setting comes first, also relative to the folder and with ~', () => {
    const programs = [...EVERYTHING, '/mine/intract-lsp', '/w/tools/intract-lsp', '/h/x/intract-lsp'];
    for (const [setting, command] of [['/mine/intract-lsp', '/mine/intract-lsp'], ['tools/intract-lsp', '/w/tools/intract-lsp'], ['~/x/intract-lsp', '/h/x/intract-lsp']]) {
        assert.deepEqual(findServer(surroundings(programs, { setting: setting ?? '' })), { source: 'setting', command });
    }
});

test('a setting that names no program is said, not skipped', () => {
    assert.throws(() => findServer(surroundings(EVERYTHING, { setting: '/no/such' })), NoSuchServer);
});

test('nothing of an untrusted workspace is run', () => {
    const programs = ['/w/.venv/bin/intract-lsp', '/w/intract-lsp'];
    assert.equal(findServer(surroundings(programs, { trusted: false })), undefined);
    assert.throws(() => findServer(surroundings(programs, { trusted: false, setting: 'intract-lsp' })), NoSuchServer);
    assert.equal(findServer(surroundings(['intract-lsp', './intract-lsp'], { environment: { PATH: ':.:' } })), undefined);
});

test('an untrusted workspace is not learnt from, whatever its own settings say', () => {
    assert.deepEqual(confinement(false), ['--set', 'training.enabled=false']);
    assert.deepEqual(confinement(true), []);
});

test('versions', () => {
    assert.deepEqual(['0.1.0', '0.2.0', '1.0', '0.1.0rc1'].map(isTooOld), [false, false, false, false]);
    assert.deepEqual(['0.0.9', undefined, 'x', ''].map(isTooOld), [true, true, true, true]);
});
