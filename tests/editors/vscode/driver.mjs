// Does in a browser what it is told, one JSON object a line: {"id", "do", ...} in, {"id", "result"} or {"id", "error"} out.
// usage: node driver.mjs CHROMIUM
import { createRequire } from 'node:module';
import readline from 'node:readline';

// playwright-core lies in .cache/vscode, not beside this file; the caller says where by NODE_PATH.
const { chromium } = createRequire(import.meta.url)('playwright-core');

const QUIET = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update',
    '--disable-sync', '--disable-quic', '--no-first-run'];
const browser = await chromium.launch({ executablePath: process.argv[2], args: QUIET });
const context = await browser.newContext({ viewport: { width: 1200, height: 700 } });
const page = await context.newPage();

/** The texts of all elements that fit, non-breaking spaces as plain ones. */
const texts = async (selector) => (await page.locator(selector).allTextContents()).map((text) => text.replace(/\u00a0/g, ' '));

const locate = ({ selector, text }) => page.locator(selector, text === undefined ? {} : { hasText: text }).first();

const actions = {
    goto: ({ url }) => page.goto(url),
    texts: ({ selector }) => texts(selector),
    labels: ({ selector }) => page.locator(selector).evaluateAll((all) => all.map((one) => one.getAttribute('aria-label') ?? '')),
    click: (asked) => locate(asked).click({ timeout: asked.timeout ?? 10_000, force: asked.force ?? false }),
    dblclick: (asked) => locate(asked).dblclick({ timeout: 10_000 }),
    press: ({ key }) => page.keyboard.press(key),
    type: ({ text, delay }) => page.keyboard.type(text, { delay: delay ?? 0 }),
    screenshot: ({ path }) => page.screenshot({ path }).then(() => null),
    /** What stands in the frames inside the page: webviews. */
    frames: () => Promise.all(page.frames().slice(1).map((frame) => frame.locator('body').innerText({ timeout: 1000 }).catch(() => ''))),
    clickInFrame: async ({ text }) => {
        for (const frame of page.frames().slice(1)) {
            const link = frame.locator('a', { hasText: text }).first();
            if (await link.count()) return link.click();
        }
        throw new Error(`no frame has a link ${text}`);
    },
    /** Presses keys one after another, and after each `every` of them tells what is shown once `pause` ms have passed. */
    typing: async ({ text, delay, every, pause }) => {
        const stops = [];
        for (let index = 0; index < text.length; index++) {
            await page.keyboard.type(text[index]);
            await page.waitForTimeout(delay);
            if ((index + 1) % every === 0) {
                await page.waitForTimeout(pause);
                stops.push({ typed: index + 1, ghost: await texts('.ghost-text-decoration, .ghost-text-decoration-preview'), lines: await texts('.view-line') });
            }
        }
        return stops;
    },
};

for await (const line of readline.createInterface({ input: process.stdin })) {
    const asked = JSON.parse(line);
    try {
        process.stdout.write(`${JSON.stringify({ id: asked.id, result: (await actions[asked.do](asked)) ?? null })}\n`);
    } catch (error) {
        process.stdout.write(`${JSON.stringify({ id: asked.id, error: String(error.message).slice(0, 2000) })}\n`);
    }
}
await browser.close();
