import assert from 'node:assert/strict';
import { test } from 'node:test';
import { coalesced, RestartPolicy } from '../src/restarts.ts';

test('each crash waits longer, and the fifth within three minutes gives up', () => {
    const policy = new RestartPolicy();
    const delays = [0, 1, 2, 3, 4].map((second) => policy.crashed(second * 1000));
    assert.deepEqual(delays, [500, 1000, 2000, 4000, undefined]);
});

test('crashes that are far apart are forgotten', () => {
    const policy = new RestartPolicy();
    const delays = Array.from({ length: 12 }, (_, index) => policy.crashed(index * 61_000));
    assert.ok(delays.every((delay) => delay !== undefined));
});

test('a start by hand begins the count anew', () => {
    const policy = new RestartPolicy();
    for (const time of [1, 2, 3, 4]) {
        policy.crashed(time);
    }
    policy.reset();
    assert.equal(policy.crashed(5), 500);
});

test('calls while one runs become one more, which begins after it', async () => {
    const log: string[] = [];
    const release: (() => void)[] = [];
    const run = coalesced(async () => {
        log.push('begin');
        await new Promise<void>((resolve) => release.push(resolve));
        log.push('end');
    });
    const all = [run(), run(), run(), run()];
    assert.deepEqual(log, ['begin']);
    release.shift()?.();
    await all[0];
    await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(log, ['begin', 'end', 'begin']);
    release.shift()?.();
    await Promise.all(all);
    assert.deepEqual(log, ['begin', 'end', 'begin', 'end']);
});

test('a failing run does not keep the next from running', async () => {
    let count = 0;
    const run = coalesced(async () => {
        count++;
        await Promise.resolve();
        if (count === 1) {
            throw new Error('first');
        }
    });
    const first = run();
    const second = run();
    await assert.rejects(first, /first/);
    await second;
    assert.equal(count, 2);
});
