/** The server's log as it comes over its standard error. Pure. */

export type Level = 'debug' | 'info' | 'warn' | 'error';

export interface LogLine {
    readonly level: Level;
    readonly text: string;
}

const LEVELS: Readonly<Record<string, Level>> = { DEBUG: 'debug', INFO: 'info', WARNING: 'warn', ERROR: 'error', CRITICAL: 'error' };

/** Return a line with its severity and without its time, which the output channel gives; what is no log line is an error. */
export function logLine(line: string): LogLine {
    const match = /^\d{4}-\d\d-\d\d [\d:,.]+ (DEBUG|INFO|WARNING|ERROR|CRITICAL) (.*)$/.exec(line);
    return { level: LEVELS[match?.[1] ?? ''] ?? 'error', text: match?.[2] ?? line };
}
