/** The pages of "Show Status" and "Show Index". */
import { age } from '../status/presentation.ts';
import { adapterOf, type StatusValues } from '../status/values.ts';
import { commandLink, escape, facts, page } from './html.ts';

/** Return the status as a page; `server` is the program that runs. */
export function statusPage(status: StatusValues, server: string, nowMs: number): string {
    const engine = status.engine ?? {};
    const timings = Object.entries(status.lastTimings ?? {}).map(([stage, value]) => [stage, value] as const);
    return page('Intract: status', [
        `<p>${commandLink('intract.showStatus', 'Refresh')}</p>`,
        facts([
            ['Server', server], ['State', engine.state], ['Model', engine.model], ['Adapter', adapterOf(status) || 'none'],
            ['Device', engine.device], ['Number format', engine.precision], ['Message', engine.message],
            ['Suggestions', status.enabled === false ? 'off' : 'on'],
            ['Languages without', status.disabledLanguages?.join(', ')],
            ['Requests answered', status.answered], ['Suggestions accepted', status.accepted],
            ['Time to a suggestion', status.shownMilliseconds ? `median ${status.shownMilliseconds.p50} ms, p95 ${status.shownMilliseconds.p95} ms` : ''],
        ]),
        status.index ? `<h2>Index</h2>${facts([
            ['State', status.index.state], ['Files', status.index.files], ['Updated', age(status.index.updatedAt, nowMs)],
            ['Message', status.index.message]])}` : '',
        status.training ? `<h2>Fine-tuning</h2>${facts([
            ['State', status.training.state], ['Run', status.training.run], ['Message', status.training.message]])}` : '',
        timings.length ? `<h2>Last request (milliseconds, tokens)</h2>${facts(timings)}` : '',
    ].join('\n'));
}

/** Commands that the links of the two pages may run. */
export const PAGE_COMMANDS: readonly string[] = ['intract.showStatus', 'intract.showIndex'];

const NOTHING_INDEXED = 'No folder is indexed: none is open, the index is switched off (intract.index.enabled), or it is about to begin.';

export interface IndexAnswer {
    readonly message?: string;
    readonly folders?: readonly {
        readonly root?: string;
        readonly state?: string;
        readonly files?: number;
        readonly chunks?: number;
        readonly symbols?: number;
        readonly queue?: number;
        readonly updatedAt?: number | null;
        readonly diskBytes?: number;
        readonly message?: string;
    }[];
}

/** Return how each folder's index stands as a page. */
export function indexPage(answer: IndexAnswer, nowMs: number): string {
    const folders = (answer.folders ?? []).map((folder) => `<h2>${escape(folder.root ?? '')}</h2>${facts([
        ['State', folder.state], ['Files', folder.files], ['Pieces', folder.chunks], ['Definitions', folder.symbols],
        ['To be read', folder.queue], ['Updated', age(folder.updatedAt, nowMs)],
        ['On disk', folder.diskBytes === undefined ? '' : `${(folder.diskBytes / 2 ** 20).toFixed(1)} MiB`],
        ['Message', folder.message],
    ])}`);
    const lead = answer.message || (folders.length ? '' : NOTHING_INDEXED);
    return page('Intract: index', `<p class="lead">${escape(lead)}</p><p>${commandLink('intract.showIndex', 'Refresh')}</p>${folders.join('')}`);
}
