import assert from 'node:assert/strict';
import { test } from 'node:test';
import { confined, CONTENT_POLICY, escape } from '../src/panels/html.ts';
import { indexPage, PAGE_COMMANDS, statusPage } from '../src/panels/statusPage.ts';
import { NO_SERVER, PANEL_COMMANDS, whyPage } from '../src/panels/why.ts';
import { COMMANDS } from '../src/commands/table.ts';

const EVIL = '<script>alert("x")</script>';

test('nothing from outside is HTML in any page', () => {
    const pages = [
        whyPage({ message: EVIL, reason: EVIL, uri: EVIL, model: EVIL, timings: { [EVIL]: 1 }, context: [{ path: EVIL, text: EVIL }] }),
        statusPage({ engine: { model: EVIL, message: EVIL }, index: { message: EVIL }, training: { message: EVIL } }, EVIL, 0),
        indexPage({ message: EVIL, folders: [{ root: EVIL, message: EVIL }] }, 0),
    ];
    for (const page of pages) {
        assert.ok(!page.includes('<script'));
        assert.ok(page.includes(escape(EVIL)));
        assert.ok(page.includes("default-src 'none'"));
    }
});

test('a reason comes with its way out, by commands that there are', () => {
    assert.match(whyPage({ message: 'm', reason: 'disabled' }), /command:intract\.toggleSuggestions/);
    assert.match(whyPage({ message: 'm', reason: NO_SERVER }), /command:intract\.openMenu/);
    assert.doesNotMatch(whyPage({ message: 'm', reason: 'mid-word' }), /intract\.toggleSuggestions/);
    const ids = new Set(COMMANDS.map(({ id }) => id));
    assert.deepEqual([...PANEL_COMMANDS, ...PAGE_COMMANDS].filter((command) => !ids.has(command)), []);
});

test('an index of nothing says why', () => {
    assert.match(indexPage({ folders: [] }, 0), /No folder is indexed/);
    assert.doesNotMatch(indexPage({ folders: [{ root: '/w' }] }, 0), /No folder is indexed/);
});

test('a report made elsewhere gets our policy before anything of its own', () => {
    const report = `<!doctype html><html><HEAD lang="en"><script>1</script></HEAD><body>ok</body></html>`;
    const shown = confined(report);
    assert.ok(shown.indexOf(CONTENT_POLICY) < shown.indexOf('<script>'));
    assert.ok(confined('<p>bare</p>').startsWith('<meta http-equiv'));
});
