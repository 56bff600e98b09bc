/** Which servers the extension works with. */

/** The oldest server whose commands and notifications the extension knows. */
export const OLDEST_SERVER = '0.1.0';

/** Return whether a server's version is too old; one that cannot be read counts as too old. */
export function isTooOld(version: string | undefined): boolean {
    const own = parse(version ?? '');
    const oldest = parse(OLDEST_SERVER);
    if (own === undefined || oldest === undefined) {
        return true;
    }
    const differing = own.findIndex((part, index) => part !== oldest[index]);
    return differing !== -1 && (own[differing] ?? 0) < (oldest[differing] ?? 0);
}

function parse(version: string): number[] | undefined {
    const match = /^(\d+)\.(\d+)(?:\.(\d+))?/.exec(version);
    return match ? match.slice(1, 4).map((part) => Number(part ?? 0)) : undefined;
}
