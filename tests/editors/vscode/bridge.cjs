// An extension for the tests alone: lets them ask VS Code itself, where typing into the palette would test the palette.
// One JSON object a POST: {"do", ...} in, {"result"} or {"error"} out. Its port is in the file $INTRACT_TEST_BRIDGE.
'use strict';
const fs = require('node:fs');
const http = require('node:http');
const vscode = require('vscode');

/** Whatever was said to the window before has been shown when this returns: it goes the same way, there and back. */
async function settle() {
    await new Promise((resolve) => setTimeout(resolve, 20));
    await vscode.commands.executeCommand('setContext', 'intractTests.settled', true);
}

async function clearMessages() {
    await vscode.commands.executeCommand('notifications.clearAll');
    await vscode.commands.executeCommand('notifications.hideList');
}

const actions = {
    /** Run a command to its end. */
    run: async ({ command, args }) => void (await vscode.commands.executeCommand(command, ...args)),
    /** Begin a command that asks the user something. */
    start: ({ command, args }) => void vscode.commands.executeCommand(command, ...args),
    /** What one of the language server's commands answers. */
    execute: ({ command }) => vscode.commands.executeCommand(command, {}),
    folders: () => (vscode.workspace.workspaceFolders ?? []).map(({ name }) => name),
    commands: () => vscode.commands.getCommands(true),
    /** Open a file, the cursor at its end and the keyboard in it. */
    open: async ({ path }) => {
        const document = await vscode.workspace.openTextDocument(vscode.Uri.file(path));
        const editor = await vscode.window.showTextDocument(document, { preview: false, viewColumn: vscode.ViewColumn.One });
        const end = document.lineAt(document.lineCount - 1).range.end;
        editor.selection = new vscode.Selection(end, end);
        editor.revealRange(new vscode.Range(end, end));
        // The cursor is not to move under what is typed next.
        await settle();
    },
    openNotebook: async ({ path }) => {
        const notebook = await vscode.workspace.openNotebookDocument(vscode.Uri.file(path));
        await vscode.window.showNotebookDocument(notebook);
    },
    editor: () => {
        const editor = vscode.window.activeTextEditor;
        return editor && { uri: editor.document.uri.toString(), language: editor.document.languageId, text: editor.document.getText() };
    },
    /** Close everything without saving. */
    closeAll: async () => {
        await vscode.commands.executeCommand('workbench.action.closeQuickOpen');
        for (let left = 50; vscode.window.tabGroups.all.some((group) => group.tabs.length > 0) && left > 0; left--) {
            await vscode.commands.executeCommand('workbench.action.revertAndCloseActiveEditor');
        }
        await clearMessages();
    },
    clearMessages,
    /** What is set of our section, as extensions see it. */
    settings: ({ names }) => Object.fromEntries(names.map((name) => {
        const { globalLocalValue, globalRemoteValue, globalValue } = vscode.workspace.getConfiguration().inspect(name) ?? {};
        return [name, globalRemoteValue ?? globalLocalValue ?? globalValue ?? null];
    })),
    /** Take back what a command has written into the user's own settings. */
    forget: async ({ name }) => {
        const configuration = vscode.workspace.getConfiguration();
        if (configuration.inspect(name)?.globalLocalValue !== undefined) {
            await configuration.update(name, undefined, vscode.ConfigurationTarget.Global);
        }
    },
    settle,
};

exports.activate = (context) => {
    const server = http.createServer((request, response) => {
        let body = '';
        request.on('data', (chunk) => (body += chunk));
        request.on('end', async () => {
            let answer;
            try {
                const asked = JSON.parse(body);
                answer = { result: (await actions[asked.do](asked)) ?? null };
            } catch (error) {
                answer = { error: String(error?.message ?? error) };
            }
            response.end(JSON.stringify(answer));
        });
    });
    server.listen(0, '127.0.0.1', () => {
        const file = process.env.INTRACT_TEST_BRIDGE;
        fs.writeFileSync(`${file}.new`, String(server.address().port));
        fs.renameSync(`${file}.new`, file);
    });
    context.subscriptions.push({ dispose: () => server.close() });
};
