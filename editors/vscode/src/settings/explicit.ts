/**
 * Which settings the server is told.
 *
 * Only what the user has set: VS Code also knows each setting's default, and sending those would override the server's
 * own files, whose layers stand below the editor's.
 */

/** What VS Code tells of one setting; the later ones win. */
export interface Inspected {
    readonly globalValue?: unknown;
    readonly workspaceValue?: unknown;
    readonly workspaceFolderValue?: unknown;
}

export type Inspect = (name: string) => Inspected | undefined;

/** Settings of the extension itself, which the server does not know. */
export const OWN_SECTION = 'server.';

/** Return the values that are set, nested by section: `{"completion": {"enabled": false}}`. */
export function explicitSettings(names: readonly string[], inspect: Inspect): Record<string, Record<string, unknown>> {
    const found: Record<string, Record<string, unknown>> = {};
    for (const name of names) {
        const [section, key] = name.split('.');
        const inspected = inspect(name);
        if (inspected === undefined || section === undefined || key === undefined || name.startsWith(OWN_SECTION)) {
            continue;
        }
        const value = inspected.workspaceFolderValue ?? inspected.workspaceValue ?? inspected.globalValue;
        if (value !== undefined) {
            (found[section] ??= {})[key] = value;
        }
    }
    return found;
}

/** Return the names, without `intract.`, of all settings that a manifest declares. */
export function declaredSettings(manifest: unknown): string[] {
    const { contributes } = manifest as { contributes: { configuration: { properties: Record<string, unknown> }[] } };
    return contributes.configuration
        .flatMap((section) => Object.keys(section.properties))
        .map((name) => name.slice('intract.'.length));
}
