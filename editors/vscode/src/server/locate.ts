/** Looks for the server on this machine, with what VS Code knows. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import * as vscode from 'vscode';
import type { Program } from '../client.ts';
import { confinement, findServer, type Found } from './discovery.ts';

const WINDOWS = process.platform === 'win32';

/** Return where the extension keeps its own copy of the server. */
export function ownDirectory(context: vscode.ExtensionContext): string {
    return path.join(context.globalStorageUri.fsPath, 'server');
}

/** Return the server found, or nothing. Throws `NoSuchServer` where the setting is wrong. */
export function locate(context: vscode.ExtensionContext): Found | undefined {
    return findServer({
        setting: text('server.path'),
        folders: folderPaths(),
        trusted: vscode.workspace.isTrusted,
        environment: process.env,
        home: os.homedir(),
        own: ownDirectory(context),
        windows: WINDOWS,
        isProgram,
    });
}

/** Return how to start a server that was found. */
export function programOf(found: Found, context: vscode.ExtensionContext): Program {
    const extra = vscode.workspace.getConfiguration('intract').get<unknown>('server.arguments');
    const args = Array.isArray(extra) ? extra.filter((one): one is string => typeof one === 'string') : [];
    const [folder] = folderPaths();
    // Nothing of an untrusted folder is to be near what runs.
    const cwd = vscode.workspace.isTrusted && folder !== undefined ? folder : context.extensionPath;
    return { command: found.command, args: ['serve', ...args, ...confinement(vscode.workspace.isTrusted)], cwd };
}

/** Return a setting that is a text; anything else counts as not set. */
export function text(name: string): string {
    const value = vscode.workspace.getConfiguration('intract').get<unknown>(name);
    return typeof value === 'string' ? value : '';
}

/** Return the workspace's folders that are on a disk. */
export function folderPaths(): string[] {
    return (vscode.workspace.workspaceFolders ?? [])
        .filter((folder) => folder.uri.scheme === 'file')
        .map((folder) => folder.uri.fsPath);
}

function isProgram(file: string): boolean {
    try {
        fs.accessSync(file, fs.constants.X_OK);
        return fs.statSync(file).isFile();
    } catch {
        return false;
    }
}
