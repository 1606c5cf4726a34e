/** Chains at the worker's start: refuses vendors of another chain, and makes sure that each chain is watched. */
import type { Client } from '@temporalio/client';
import { wrongVendors } from '../providers/chain/rpc-vendors.ts';
import type { CryptoSettings } from '../providers/chain/settings.ts';
import { ConfigError, invalidEnvironment } from '../runtime/environment.ts';
import { configureChainSignal, watchChainStart, WORKFLOW_TYPES, type WatchChainInput } from '../contract/index.ts';

/** Throws a ConfigError that names every vendor of another chain and every token with other decimals. */
export async function requireRightVendors(crypto: CryptoSettings | null): Promise<void> {
  if (crypto === null) return;
  const faults = await wrongVendors(crypto.chains, crypto.watch);
  if (faults.length > 0) throw new ConfigError(invalidEnvironment(faults));
}

/** Starts the watch of every chain; a running watch gets the present settings. */
export async function watchChains(client: Client, taskQueue: string, crypto: CryptoSettings | null): Promise<void> {
  for (const { chainId, name: chainName } of crypto?.chains ?? []) {
    const { pollSeconds, rescanSeconds, rescanBackSeconds } = crypto!.watch;
    const input: WatchChainInput = {
      ...{ chainId, chainName, pollSeconds, rescanSeconds, rescanBackSeconds },
      runSeconds: RUN_SECONDS,
    };
    await client.workflow.signalWithStart<(input: WatchChainInput) => Promise<void>, [WatchChainInput]>(
      WORKFLOW_TYPES.watchChain,
      { ...watchChainStart(input, taskQueue), signal: configureChainSignal, signalArgs: [input] },
    );
  }
}

/** Runs start again daily, so that no old code stays in use. */
const RUN_SECONDS = 86_400;
