/** What the chain twin's process is started with, from its environment. */
import type { ChainTwinOptions } from './twin.ts';
import { BadInput } from '../input.ts';

const PORT_MAX = 65_535;
const BLOCK_SECONDS_MAX = 600;
const SLOTS_MAX = 64;

export const DEFAULT_CHAINS = '8453:1,1:2';

type ChainOptions = ChainTwinOptions['chains'][number];

/** Parses the process environment; throws one `BadInput` that lists every bad variable. */
export function optionsFromEnvironment(environment: Readonly<Record<string, string | undefined>>): ChainTwinOptions {
  const problems: string[] = [];
  const given = (name: string): string | undefined => {
    const value = environment[name]?.trim();
    return value === '' ? undefined : value;
  };
  const number = (name: string, max: number): number | undefined => {
    const text = given(name);
    if (text === undefined) return undefined;
    const value = Number(text);
    if (!Number.isInteger(value) || value < 0 || value > max) {
      problems.push(`'${name}' must be a whole number between 0 and ${max}.`);
    }
    return value;
  };

  const port = number('TWIN_PORT', PORT_MAX);
  const slotsInAnEpoch = number('TWIN_SLOTS_IN_AN_EPOCH', SLOTS_MAX);
  const chains = readChains(given('TWIN_CHAINS') ?? DEFAULT_CHAINS);
  if (chains === null) {
    problems.push(
      `'TWIN_CHAINS' must be a list of <chain id> or <chain id>:<seconds per block>, as in ${DEFAULT_CHAINS}.`,
    );
  }
  if (problems.length > 0) throw new BadInput(`Bad environment. ${problems.join(' ')}`);

  return {
    host: given('TWIN_HOST') ?? '127.0.0.1',
    port: port ?? 0,
    chains: (chains ?? []).map((chain) => ({ ...chain, ...(slotsInAnEpoch !== undefined && { slotsInAnEpoch }) })),
    stateFolder: given('TWIN_DATA_FOLDER') ?? null,
  };
}

/** Null when it is not such a list, or names a chain twice. */
function readChains(text: string): ChainOptions[] | null {
  const chains: ChainOptions[] = [];
  for (const entry of text.split(',')) {
    const match = /^\s*([1-9]\d{0,9})(?::([1-9]\d{0,2}))?\s*$/.exec(entry);
    if (match === null) return null;
    const chainId = Number(match[1]);
    const blockSeconds = match[2] === undefined ? null : Number(match[2]);
    if (blockSeconds !== null && blockSeconds > BLOCK_SECONDS_MAX) return null;
    if (chains.some((chain) => chain.chainId === chainId)) return null;
    chains.push({ chainId, blockSeconds });
  }
  return chains;
}
