import assert from 'node:assert/strict';
import { test } from 'node:test';
import { adapterPicks, gain, minutesProblem, modelPicks, size } from '../src/commands/values.ts';
import { isServed } from '../src/documents.ts';
import { declaredSettings, explicitSettings } from '../src/settings/explicit.ts';

test('only what the user has set is sent, the nearest level first', () => {
    const set: Record<string, object> = {
        'completion.enabled': { defaultValue: true },
        'completion.multi_line': { defaultValue: 'auto', globalValue: 'never', workspaceValue: 'always' },
        'model.threads': { defaultValue: 0, globalValue: 0 },
        'server.path': { globalValue: '/x' },
    };
    assert.deepEqual(explicitSettings(Object.keys(set), (name) => set[name]), { completion: { multi_line: 'always' }, model: { threads: 0 } });
    assert.deepEqual(explicitSettings(['a.b', 'c'], () => undefined), {});
});

test('settings are read from a manifest without their prefix', () => {
    const manifest = { contributes: { configuration: [{ properties: { 'intract.a.b': {} } }, { properties: { 'intract.c.d': {} } }] } };
    assert.deepEqual(declaredSettings(manifest), ['a.b', 'c.d']);
});

test('minutes', () => {
    assert.deepEqual(['', ' ', '5', '0.5', '10080'].map(minutesProblem), [undefined, undefined, undefined, undefined, undefined]);
    assert.ok(['0', '-1', 'x', '10081', 'NaN', 'Infinity', '1e9'].every((input) => minutesProblem(input) !== undefined));
});

test('models are listed with what they cost', () => {
    const [first, second] = modelPicks([
        { name: 'a', installed: true, default: true, memory_bytes: 2 ** 30, fim: 'qwen', licence: 'apache-2.0' },
        { name: 'b', installed: false, download_bytes: 460 * 2 ** 20, fim: 'none' },
    ], 'a');
    assert.deepEqual([first?.label, first?.description], ['$(check) a', 'on this machine, default here']);
    assert.match(first?.detail ?? '', /1\.0 GiB.*apache/);
    assert.deepEqual([second?.label, second?.description], ['b', '460 MiB to download']);
    assert.match(second?.detail ?? '', /does not see/);
    assert.equal(size(undefined), 'unknown size');
});

test('adapters are listed with what they gained', () => {
    const figures = { edit_similarity_base: 41.2, edit_similarity_adapter: 45, nll_base: 1, nll_adapter: 0.9 };
    assert.equal(gain({ id: 'x', metrics: figures }), 'edit similarity 41.2 → 45.0, loss 1.000 → 0.900');
    assert.equal(gain({ id: 'x', ...figures, nll_base: null }), 'edit similarity 41.2 → 45.0');
    assert.equal(gain({ id: 'x' }), 'not measured');
    assert.equal(adapterPicks([{ id: 'x', status: 'active' }])[0]?.label, '$(check) x');
});

test('outputs, diffs and settings pages are not sent', () => {
    assert.ok(['file', 'untitled', 'vscode-notebook-cell', 'vscode-remote'].every(isServed));
    assert.ok(!['output', 'git', 'vscode-settings', 'vscode', 'search-editor', 'comment'].some(isServed));
});
