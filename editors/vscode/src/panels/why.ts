/** The panel "Why no suggestion?": what the server answers to `intract.why`, in words. */
import { commandLink, escape, facts, page } from './html.ts';

export interface WhyAnswer {
    readonly message?: string;
    readonly suggestion?: boolean;
    readonly reason?: string | null;
    readonly source?: string | null;
    readonly uri?: string;
    readonly model?: string;
    readonly timings?: Readonly<Record<string, number>>;
    readonly promptTokens?: number;
    readonly reusedTokens?: number;
    readonly generatedTokens?: number;
    readonly context?: readonly { readonly path?: string; readonly text?: string }[];
}

/** The reason where there is no server to ask. */
export const NO_SERVER = 'no-server';

/** What to do about a reason, as commands. */
const WAYS_OUT: Readonly<Record<string, readonly [string, string][]>> = {
    [NO_SERVER]: [['intract.openMenu', 'What to do'], ['intract.showLog', 'Show the log']],
    'disabled': [['intract.toggleSuggestions', 'Switch suggestions on']],
    'language-off': [['intract.toggleLanguage', 'Switch this language on']],
    'no-model': [['intract.chooseModel', 'Choose a model']],
    'resting': [['intract.cancelFineTune', 'Cancel the fine-tuning run']],
    'model-failed': [['intract.chooseModel', 'Choose a model'], ['intract.showLog', 'Show the log']],
    'engine-error': [['intract.showLog', 'Show the log'], ['intract.restartServer', 'Restart the server']],
    'deadline': [['intract.chooseModel', 'Choose a smaller model']],
};

/** Commands that the panel's links may run. */
export const PANEL_COMMANDS: readonly string[] = [
    'intract.whyNoSuggestion',
    ...new Set(Object.values(WAYS_OUT).flatMap((ways) => ways.map(([command]) => command))),
];

/** Return the panel's page. */
export function whyPage(answer: WhyAnswer): string {
    const ways = WAYS_OUT[answer.reason ?? ''] ?? [];
    const links = [...ways, ['intract.whyNoSuggestion', 'Ask again'] as const].map(([command, title]) => commandLink(command, title));
    const timings = Object.entries(answer.timings ?? {}).filter(([, ms]) => ms > 0).map(([stage, ms]) => [stage, `${ms} ms`] as const);
    const pieces = (answer.context ?? []).map((piece) =>
        `<h3>${escape(piece.path ?? '')}</h3>${piece.text ? `<pre>${escape(piece.text)}</pre>` : ''}`);
    return page('Why no suggestion?', [
        `<p class="lead">${escape(answer.message ?? 'The server gave no reason.')}</p>`,
        `<p>${links.join('')}</p>`,
        facts([
            ['Reason', answer.reason], ['Suggestion from', answer.source], ['Document', answer.uri], ['Model', answer.model],
            ['Tokens of the prompt', answer.promptTokens || ''], ['of which were known', answer.reusedTokens || ''],
            ['Tokens generated', answer.generatedTokens || ''],
        ]),
        timings.length ? `<h2>Where the time went</h2>${facts(timings)}` : '',
        pieces.length ? `<h2>What the model saw of other files</h2>${pieces.join('')}` : '',
    ].join('\n'));
}
