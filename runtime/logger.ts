/** The structured log: one JSON line per state change, on stdout. Secrets, prompts and answers never enter it. */
import { pino, type Logger } from 'pino';

export type { Logger };

export const LOG_LEVELS = ['debug', 'info', 'warn', 'error', 'silent'] as const;

export function createLogger(process: string, level: (typeof LOG_LEVELS)[number]): Logger {
  return pino({
    level,
    base: { process },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
  });
}
