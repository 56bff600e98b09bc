/** Which documents get suggestions: what people edit, not outputs, diffs or settings pages. */

/** As both VS Code and the language client understand it. */
export const SELECTOR = [
    { scheme: 'file' },
    { scheme: 'untitled' },
    { scheme: 'vscode-notebook-cell' },
    { scheme: 'vscode-remote' },
    { scheme: 'vscode-vfs' },
];

/** Return whether a document of this scheme is sent to the server. */
export function isServed(scheme: string): boolean {
    return SELECTOR.some((filter) => filter.scheme === scheme);
}
