import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import { ACCEPTED_COMMAND, COMMANDS, unreachable } from '../src/commands/table.ts';

const manifest = JSON.parse(fs.readFileSync(new URL('../package.json', import.meta.url), 'utf8'));

test('no command has the name of a server command, which the language client registers itself', () => {
    const server = new Set([...COMMANDS.map((entry) => entry.server), ACCEPTED_COMMAND]);
    assert.deepEqual(COMMANDS.filter(({ id }) => server.has(id)), []);
    assert.equal(new Set(COMMANDS.map(({ id }) => id)).size, COMMANDS.length);
});

test('a server command that nothing leads to is found', () => {
    assert.deepEqual(unreachable(['intract.why', ACCEPTED_COMMAND, 'intract.new']), ['intract.new']);
});

test('every command that the manifest names is one of the table', () => {
    const ids = new Set(COMMANDS.map(({ id }) => id));
    const named = [...JSON.stringify(manifest.contributes).matchAll(/(?:"command":"|command:)(intract\.\w+)/g)].map((match) => match[1]);
    assert.deepEqual(named.filter((id) => !ids.has(id ?? '')), []);
});

test('keys act only while a suggestion is shown', () => {
    for (const binding of manifest.contributes.keybindings) {
        assert.match(binding.when, /inlineSuggestionVisible/);
    }
});

test('settings that name programs or models do not count in untrusted workspaces', () => {
    const restricted = manifest.capabilities.untrustedWorkspaces.restrictedConfigurations;
    const own = Object.keys(manifest.contributes.configuration[0].properties);
    assert.deepEqual(own.filter((name) => !restricted.includes(name)), []);
    assert.ok(restricted.includes('intract.model.name'));
});
