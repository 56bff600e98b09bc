/** What the commands work with. */
import type * as vscode from 'vscode';
import type { LateSuggestions } from '../late.ts';
import type { Panels } from '../panels/panel.ts';
import type { Session } from '../session.ts';
import type { StatusBar } from '../status/bar.ts';
import type { AdapterTree } from '../views/adapters.ts';

export interface Parts {
    readonly context: vscode.ExtensionContext;
    readonly session: Session;
    readonly bar: StatusBar;
    readonly late: LateSuggestions;
    readonly panels: Panels;
    readonly adapters: AdapterTree;
    readonly log: vscode.LogOutputChannel;
    /** Install the server and start it. */
    readonly installServer: () => Promise<void>;
}

/** A command's work; `argument` is what a view hands over. */
export type Handler = (argument?: unknown) => Promise<void> | void;

export type Handlers = Readonly<Record<string, Handler>>;
