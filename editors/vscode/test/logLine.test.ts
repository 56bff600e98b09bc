import assert from 'node:assert/strict';
import { test } from 'node:test';
import { logLine } from '../src/server/logLine.ts';

test('lines of the log keep their severity, and what is none is an error', () => {
    const cases: [string, string, string][] = [
        ['2026-11-23 11:27:25,172 INFO intract_lsp.worker engine ready', 'info', 'intract_lsp.worker engine ready'],
        ['2026-11-23 11:27:25,172 WARNING x y', 'warn', 'x y'],
        ['2026-11-23 11:27:25,172 DEBUG x', 'debug', 'x'],
        ['2026-11-23 11:27:25,172 CRITICAL x', 'error', 'x'],
        ['ModuleNotFoundError: No module named pygls', 'error', 'ModuleNotFoundError: No module named pygls'],
        ['', 'error', ''],
    ];
    for (const [line, level, text] of cases) {
        assert.deepEqual(logLine(line), { level, text });
    }
});
