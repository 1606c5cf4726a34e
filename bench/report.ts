/** How figures are shown: tables for people, one JSON file for programs. Decides nothing about them. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus, release, totalmem, version as osVersion } from 'node:os';
import { join } from 'node:path';

/** Aligns columns: numbers to the right, words to the left. */
export function table(title: string, header: readonly string[], rows: readonly (readonly string[])[]): string {
  const columns = header.map((name, column) => {
    const cells = rows.map((row) => row[column] ?? '');
    const width = Math.max(name.length, ...cells.map((cell) => cell.length));
    const isNumeric = cells.every((cell) => cell === '' || /^[+\-–]?\d|^–$/.test(cell));
    return (cell: string): string => (isNumeric ? cell.padStart(width) : cell.padEnd(width));
  });
  const line = (cells: readonly string[]): string =>
    columns
      .map((align, column) => align(cells[column] ?? ''))
      .join('  ')
      .trimEnd();
  const rule = columns.map((align) => align('').replaceAll(' ', '-')).join('  ');
  return ['', title, '', line(header), rule, ...rows.map(line)].join('\n');
}

/** A figure with that many decimals; a dash for what could not be measured. */
export function figure(value: number | null, decimals = 1): string {
  return value === null || !Number.isFinite(value) ? '–' : value.toFixed(decimals);
}

/** With its sign, for differences. */
export function signed(value: number, decimals = 1): string {
  return Number.isFinite(value) ? `${value >= 0 ? '+' : ''}${value.toFixed(decimals)}` : '–';
}

/** The machine and runtime that the figures belong to. */
export function describeMachine(): Record<string, string | number> {
  return {
    cores: cpus().length,
    cpu: cpus()[0]?.model ?? 'unknown',
    memory_gib: Math.round(totalmem() / 1024 ** 3),
    os: `${process.platform} ${release()} (${osVersion()})`,
    node: process.version,
  };
}

const RESULTS = join(import.meta.dirname, 'results');

/** Writes one run's result beside those before it and returns where. NaN (nothing measured) becomes null. */
export function writeResult(name: string, result: unknown): string {
  mkdirSync(RESULTS, { recursive: true });
  const stamp = new Date().toISOString().replaceAll(/[:.]/g, '-');
  const file = join(RESULTS, `${name}-${stamp}.json`);
  writeFileSync(file, `${JSON.stringify(result, null, 2)}\n`);
  return file;
}
