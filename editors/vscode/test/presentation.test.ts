import assert from 'node:assert/strict';
import { test } from 'node:test';
import { menuEntries, type MenuState } from '../src/status/menu.ts';
import { age, present, type Kind, type SessionState, type View } from '../src/status/presentation.ts';
import type { StatusValues } from '../src/status/values.ts';
import { COMMANDS } from '../src/commands/table.ts';

const READY: StatusValues = { engine: { state: 'ready', model: 'qwen' }, enabled: true, disabledLanguages: [] };

function view(status?: StatusValues, changes: Partial<View> = {}): View {
    return { session: { kind: 'running' }, status, asking: 0, offers: true, ...changes };
}

test('every state is told apart', () => {
    const training = { state: 'running', fraction: 0.42, message: 'step 3 of 7' };
    const cases: [Kind, View, RegExp][] = [
        ['loading', view(undefined), /Intract$/],
        ['loading', view({ engine: { state: 'loading', fraction: 0.5 } }), / 50%$/],
        ['loading', view(READY, { offers: false }), /Intract$/],
        ['ready', view(READY), /^\$\(sparkle\) Intract$/],
        ['thinking', view(READY, { asking: 1 }), /spin/],
        ['indexing', view({ ...READY, index: { state: 'indexing', queue: 3 } }), /indexing$/],
        ['training', view({ ...READY, training }), /training 42%$/],
        ['training', view({ ...READY, training: { ...training, state: 'paused' } }), /training 42%$/],
        ['thinking', view({ ...READY, training }, { asking: 2 }), /training 42%$/],
        ['ready', view({ ...READY, training: { ...training, state: 'promoted' } }), /Intract$/],
        ['paused', view({ ...READY, enabled: false }), /paused$/],
        ['language-off', view({ ...READY, disabledLanguages: ['lua'] }, { language: 'lua' }), /off for lua$/],
        ['ready', view({ ...READY, disabledLanguages: ['lua'] }, { language: 'go' }), /Intract$/],
        ['error', view({ engine: { state: 'failed', message: 'No memory.' } }), /model$/],
        ['error', view({ engine: { state: 'absent' } }), /no model$/],
        ['training', view({ engine: { state: 'resting' }, training }), /training 42%: no suggestions$/],
    ];
    for (const [kind, given, text] of cases) {
        const shown = present(given);
        assert.equal(shown.kind, kind, JSON.stringify(given));
        assert.match(shown.text, text);
        assert.match(shown.sentence, /\S/);
    }
});

test('the process comes before what it said last', () => {
    const states: [SessionState, Kind][] = [
        [{ kind: 'starting' }, 'loading'], [{ kind: 'installing' }, 'loading'], [{ kind: 'restarting', seconds: 2 }, 'loading'],
        [{ kind: 'missing' }, 'missing'], [{ kind: 'stopped' }, 'stopped'], [{ kind: 'failed', message: 'Gone.' }, 'error'],
    ];
    for (const [session, kind] of states) {
        assert.equal(present(view(READY, { session, asking: 1 })).kind, kind);
    }
    assert.equal(present(view(READY, { session: { kind: 'failed', message: 'Gone.' } })).sentence, 'Gone.');
});

test('the menu offers only commands that there are, and training only where it is allowed', () => {
    const ids = new Set(COMMANDS.map(({ id }) => id));
    const base: MenuState = { kind: 'ready', language: 'go', languageOff: false, paused: false, workspace: 'on', canTrain: true, training: false };
    const kinds: Kind[] = ['loading', 'ready', 'thinking', 'indexing', 'training', 'paused', 'language-off', 'error', 'missing', 'stopped'];
    for (const kind of kinds) {
        const entries = menuEntries({ ...base, kind });
        assert.deepEqual(entries.filter(({ command }) => !ids.has(command)), []);
        assert.equal(new Set(entries.map(({ command }) => command)).size, entries.length);
        assert.ok(entries.some(({ command }) => command === 'intract.showLog'));
    }
    assert.equal(menuEntries({ ...base, kind: 'missing' })[0]?.command, 'intract.installServer');
    assert.ok(!menuEntries({ ...base, canTrain: false }).some(({ label }) => /tun/.test(label)));
    const labels = (changes: Partial<MenuState>): string => menuEntries({ ...base, ...changes }).map(({ label }) => label).join();
    assert.match(labels({}), /Switch off for this workspace/);
    assert.match(labels({ workspace: 'off' }), /Switch on for this workspace/);
    assert.doesNotMatch(labels({ workspace: 'none' }), /this workspace/);
    assert.ok(menuEntries({ ...base, training: true }).some(({ command }) => command === 'intract.cancelFineTune'));
});

test('ages', () => {
    assert.deepEqual([null, 100, 40, -7_100, -200_000].map((time) => age(time, 100_000)), ['never', '0 s ago', '1 min ago', '2 h ago', '2 d ago']);
});
