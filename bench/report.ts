/** How figures are shown: tables for people, one JSON file for programs. Decides nothing about them. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus, release, totalmem, version as osVersion } from 'node:os';
import { join } from 'node:path';

/** Aligns columns: the first to the left, the others to the right. */
export function table(title: string, header: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [header, ...rows];
  const widths = header.map((_, column) => Math.max(...lines.map((line) => (line[column] ?? '').length)));
  const text = lines.map((line) =>
    widths
      .map((width, column) => pad(line[column] ?? '', width, column === 0))
      .join('  ')
      .trimEnd(),
  );
  const rule = widths.map((width) => '-'.repeat(width)).join('  ');
  return ['', title, '', text[0], rule, ...text.slice(1)].join('\n');
}

function pad(cell: string, width: number, left: boolean): string {
  return left ? cell.padEnd(width) : cell.padStart(width);
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
