/** The report of the doctor: one line each for people, or one JSON object for machines. No secret is in either. */
import type { Line, State } from './check.ts';

const ORDER: readonly State[] = ['ok', 'warning', 'fault'];

/** The worst state of all. */
export function worstOf(lines: readonly Line[]): State {
  const worst = Math.max(0, ...lines.map(({ state }) => ORDER.indexOf(state)));
  return ORDER[worst]!;
}

/** `fault    stripe key   what is so. What to do.` */
export function textOf(lines: readonly Line[]): string {
  const width = Math.max(...lines.map(({ check }) => check.length));
  const count = (state: State): number => lines.filter((line) => line.state === state).length;
  return [
    ...lines.map((line) => lineOf(line, width)),
    '',
    `${count('ok')} ok, ${count('warning')} warnings, ${count('fault')} faults`,
  ].join('\n');
}

export function lineOf({ state, check, message, cure }: Line, width = 0): string {
  const words = cure === undefined ? message : `${message}. Cure: ${cure}`;
  return `${state.padEnd(8)} ${check.padEnd(width)}  ${oneLine(words)}`;
}

export function jsonOf(lines: readonly Line[]): string {
  return JSON.stringify({ state: worstOf(lines), lines });
}

/** Messages of other programs may have many lines. */
const oneLine = (text: string): string => text.replaceAll(/\s+/g, ' ').trim();

/** Values that are shorter are found by chance in ordinary words. */
const SECRET_LENGTH_MIN = 6;

/** The lines without any of the secrets, whatever has quoted them. */
export function withoutSecrets(lines: readonly Line[], secrets: readonly string[]): Line[] {
  const known = secrets.filter((secret) => secret.length >= SECRET_LENGTH_MIN).sort((a, b) => b.length - a.length);
  const hide = (text: string): string => known.reduce((hidden, secret) => hidden.replaceAll(secret, '***'), text);
  return lines.map(({ message, cure, ...line }) => ({
    ...line,
    message: hide(message),
    ...(cure !== undefined && { cure: hide(cure) }),
  }));
}
