/** Pages for webviews: no scripts, no addresses, everything from outside escaped. */

export type Cell = string | number | null | undefined;

/** Return a text as HTML shows it literally. */
export function escape(text: string): string {
    const codes: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
    return text.replace(/[&<>"']/g, (character) => codes[character] ?? character);
}

/** Return a table of two columns; rows without a value are left out. */
export function facts(rows: readonly (readonly [string, Cell])[]): string {
    const cells = rows
        .filter(([, value]) => value !== undefined && value !== null && value !== '')
        .map(([name, value]) => `<tr><th scope="row">${escape(name)}</th><td>${escape(String(value))}</td></tr>`);
    return `<table>${cells.join('')}</table>`;
}

/** Return a link that runs a command of VS Code. */
export function commandLink(command: string, title: string): string {
    return `<a href="command:${escape(command)}">${escape(title)}</a>`;
}

export const CONTENT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:;";

/** Return a page around a body that is HTML already. */
export function page(title: string, body: string): string {
    return `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>${escape(title)}</title>
<meta http-equiv="Content-Security-Policy" content="${CONTENT_POLICY}">
<style>
body { font-family: var(--vscode-font-family); color: var(--vscode-foreground); padding: 0 1.5em 2em; max-width: 60em; }
h1 { font-size: 1.4em; font-weight: 500; } h2 { font-size: 1.1em; font-weight: 500; margin-top: 1.6em; }
th { text-align: left; font-weight: normal; opacity: 0.8; padding: 0.15em 2em 0.15em 0; vertical-align: top; }
pre { background: var(--vscode-textCodeBlock-background); padding: 0.8em; overflow-x: auto; }
.lead { font-size: 1.1em; } a { color: var(--vscode-textLink-foreground); margin-right: 1.2em; }
</style></head><body><h1>${escape(title)}</h1>${body}</body></html>`;
}

/** Return a report made elsewhere with our policy first, so that nothing in it can run or load. */
export function confined(report: string): string {
    const policy = `<meta http-equiv="Content-Security-Policy" content="${CONTENT_POLICY}">`;
    const head = /<head[^>]*>/i.exec(report);
    return head ? report.slice(0, head.index + head[0].length) + policy + report.slice(head.index + head[0].length) : policy + report;
}
