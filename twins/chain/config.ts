/** Settings of the chain twin's process, from its environment. */
import { TwinEnvironment } from '../kit/environment.ts';
import type { ChainTwinOptions } from './twin.ts';

const BLOCK_SECONDS_MAX = 600;
const SLOTS_MAX = 64;

export const DEFAULT_CHAINS = '8453:1,1:2';

type ChainOptions = ChainTwinOptions['chains'][number];

/** Throws one `BadInput` that lists every bad variable. */
export function optionsFromEnvironment(environment: Readonly<Record<string, string | undefined>>): ChainTwinOptions {
  const env = new TwinEnvironment(environment);
  const place = env.place();
  const slotsInAnEpoch = env.number('TWIN_SLOTS_IN_AN_EPOCH', SLOTS_MAX);
  const chains = readChains(env.text('TWIN_CHAINS') ?? DEFAULT_CHAINS);
  if (chains === null) {
    env.problem(
      `'TWIN_CHAINS' must be a list of <chain id> or <chain id>:<seconds per block>, as in ${DEFAULT_CHAINS}.`,
    );
  }
  env.check();
  return {
    ...place,
    chains: (chains ?? []).map((chain) => ({ ...chain, ...(slotsInAnEpoch !== undefined && { slotsInAnEpoch }) })),
    stateFolder: env.text('TWIN_DATA_FOLDER') ?? null,
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
