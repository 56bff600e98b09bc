// Does in a browser what it is told, one JSON object a line: {"id", "do", ...} in, {"id", "result"} or {"id", "error"} out.
// usage: node driver.mjs CHROMIUM
import { createRequire } from 'node:module';
import readline from 'node:readline';

// playwright-core lies in .cache/vscode, not beside this file; the caller says where by NODE_PATH.
const { chromium } = createRequire(import.meta.url)('playwright-core');

const QUIET = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update',
    '--disable-sync', '--disable-quic', '--no-first-run', '--disable-renderer-backgrounding', '--disable-dev-shm-usage'];
const CLICK_MS = 15_000;
const browser = await chromium.launch({ executablePath: process.argv[2], args: QUIET });
const context = await browser.newContext({ viewport: { width: 1200, height: 700 } });
const pages = [await context.newPage()];
let page = pages[0];

const plain = (text) => text.replace(/\u00a0/g, ' ');

/** The texts of all elements that fit, non-breaking spaces as plain ones. */
const texts = async (selector) => (await page.locator(selector).allTextContents()).map(plain);

const locate = ({ selector, text }) => page.locator(selector, text === undefined ? {} : { hasText: text }).first();

/** Looked at in one turn of the page, once it has drawn what was typed: the ghost text and the line that it is on. */
const look = () => page.evaluate(async () => {
    await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
    const text = (node) => (node.textContent ?? '').replace(/\u00a0/g, ' ');
    const inline = [...document.querySelectorAll('.ghost-text-decoration, .ghost-text-decoration-preview')];
    const below = [...document.querySelectorAll('.suggest-preview-text .view-line')].map(text);
    const ghost = [inline.map(text).join(''), ...below].join('\n');
    return { ghost, line: inline[0] ? text(inline[0].closest('.view-line')) : '' };
});

const actions = {
    goto: ({ url }) => page.goto(url).then(() => null),
    /** Goes on in this page from now on; one that there is not yet is opened. */
    page: async ({ index }) => {
        pages[index] ??= await context.newPage();
        page = pages[index];
        await page.bringToFront();
    },
    /** Closes this page as a user closes a window, and goes on in the first. */
    close: async () => {
        await page.close({ runBeforeUnload: true });
        pages.splice(pages.indexOf(page), 1);
        page = pages[0];
    },
    resize: ({ width, height }) => page.setViewportSize({ width, height }),
    texts: ({ selector }) => texts(selector),
    labels: ({ selector }) => page.locator(selector).evaluateAll((all) => all.map((one) => one.getAttribute('aria-label') ?? '')),
    /** Whether the keyboard is in an element that fits. */
    focused: ({ selector }) => page.evaluate((one) => document.hasFocus() && document.activeElement?.closest(one) != null, selector),
    click: (asked) => locate(asked).click({ timeout: CLICK_MS }),
    /**
     * Waits until the page has had nothing to do. What suggests in an editor is made by VS Code at such a moment, at
     * the latest five seconds after the editor, and asks about no key before.
     */
    idle: () => page.evaluate(() => new Promise((resolve) => requestIdleCallback(() => resolve(null), { timeout: 6000 }))),
    press: ({ key }) => page.keyboard.press(key),
    /** Presses the keys of a text, each `delay` milliseconds after the one before began, however long that took. */
    type: async ({ text, delay }) => {
        const begin = performance.now();
        for (const [index, key] of [...text].entries()) {
            await page.waitForTimeout(Math.max(0, begin + index * delay - performance.now()));
            await (key === '\n' ? page.keyboard.press('Enter') : page.keyboard.type(key));
        }
    },
    look,
    screenshot: ({ path, clip }) => page.screenshot({ path, ...(clip && { clip }) }).then(() => null),
    /** What stands in the frames inside the page: webviews. */
    frames: () => Promise.all(page.frames().slice(1).map((frame) => frame.locator('body').innerText({ timeout: 1000 }).catch(() => ''))),
    /** Clicks a link in a webview; returns whether there was one, since a page that is shown anew has none for a moment. */
    clickInFrame: async ({ text }) => {
        for (const frame of page.frames().slice(1)) {
            const click = async () => {
                const link = frame.locator('a', { hasText: text }).first();
                return (await link.count()) > 0 && link.click({ timeout: 2000 }).then(() => true);
            };
            if (await click().catch(() => false)) return true;
        }
        return false;
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
