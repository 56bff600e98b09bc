/** The server's answers as lists to pick from, and the user's input checked. Pure. */

export interface Pick<Value> {
    readonly label: string;
    readonly description: string;
    readonly detail: string;
    readonly value: Value;
}

export interface ModelValues {
    readonly name: string;
    readonly installed?: boolean;
    readonly default?: boolean;
    readonly download_bytes?: number;
    readonly memory_bytes?: number;
    readonly fim?: string;
    readonly licence?: string;
}

/** Return the models, the present one marked, each with what it costs. */
export function modelPicks(models: readonly ModelValues[], current: string): Pick<ModelValues>[] {
    return models.map((model) => ({
        label: `${model.name === current ? '$(check) ' : ''}${model.name}`,
        description: [model.installed ? 'on this machine' : `${size(model.download_bytes)} to download`, model.default && 'default here']
            .filter(Boolean).join(', '),
        detail: [model.memory_bytes ? `${size(model.memory_bytes)} of memory with 16-bit weights` : '',
            model.fim === 'none' ? 'does not see what follows the cursor' : '', model.licence ?? '']
            .filter((part) => part !== '').join(' · '),
        value: model,
    }));
}

/** Return a number of bytes as people read it. */
export function size(bytes: number | undefined): string {
    if (!bytes) {
        return 'unknown size';
    }
    return bytes >= 2 ** 30 ? `${(bytes / 2 ** 30).toFixed(1)} GiB` : `${Math.round(bytes / 2 ** 20)} MiB`;
}

/** Return a message for input that is no number of minutes, or nothing; empty input leaves it to the server. */
export function minutesProblem(input: string): string | undefined {
    if (input.trim() === '') {
        return undefined;
    }
    const minutes = Number(input);
    return Number.isFinite(minutes) && minutes > 0 && minutes <= 10_080 ? undefined : 'Write a number of minutes between 0 and 10080, or nothing.';
}

export interface AdapterValues {
    readonly id: string;
    readonly status?: string;
    readonly active?: boolean;
    readonly base?: string;
    readonly kind?: string;
    readonly created?: number | string;
    readonly metrics?: Readonly<Record<string, unknown>>;
    /** What was seen of it in service. */
    readonly trial?: { readonly message: string } | null;
    readonly [name: string]: unknown;
}

/** Return what an adapter gained on the project's own newest code, in words. */
export function gain(adapter: AdapterValues): string {
    const figures: Readonly<Record<string, unknown>> = { ...adapter, ...adapter.metrics };
    const pair = (before: string, after: string, digits: number): string => {
        const [from, to] = [figures[before], figures[after]];
        return typeof from === 'number' && typeof to === 'number' ? `${from.toFixed(digits)} → ${to.toFixed(digits)}` : '';
    };
    const similarity = pair('edit_similarity_base', 'edit_similarity_adapter', 1);
    const loss = pair('nll_base', 'nll_adapter', 3);
    return [similarity && `edit similarity ${similarity}`, loss && `loss ${loss}`].filter((part) => part !== '').join(', ') || 'not measured';
}

/** Return whether an adapter is the one that serves. */
export function isActive(adapter: AdapterValues): boolean {
    return adapter.active === true || adapter.status === 'active';
}

/** Return adapters as a list to pick from. */
export function adapterPicks(adapters: readonly AdapterValues[]): Pick<AdapterValues>[] {
    return adapters.map((adapter) => ({
        label: `${isActive(adapter) ? '$(check) ' : ''}${adapter.id}`,
        description: isActive(adapter) ? 'active' : (adapter.status ?? ''),
        detail: gain(adapter),
        value: adapter,
    }));
}

/** Return a list without one of its members. */
export function without<Member>(list: readonly Member[], member: Member): Member[] {
    return list.filter((one) => one !== member);
}
