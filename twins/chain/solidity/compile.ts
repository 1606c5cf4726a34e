/**
 * Compiles the contracts of this folder into `artifacts.json`, which is committed: nobody needs the compiler (and its 9 MB
 * of start-up) to run the twin. Run `node twins/chain/solidity/compile.ts` after a change of a source; a test compares
 * `sourcesSha256`, so a forgotten run does not go unnoticed.
 */
import { writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { contractSources, sourcesSha256 } from './sources.ts';

/** An EVM version that every chain of the product has had for years. */
const EVM_VERSION = 'paris';

interface CompilerOutput {
  readonly errors?: readonly { severity: string; formattedMessage: string }[];
  readonly contracts: Record<
    string,
    Record<string, { abi: unknown[]; evm: { deployedBytecode: { object: string }; bytecode: { object: string } } }>
  >;
}

const sources = contractSources();
const solc = createRequire(import.meta.url)('solc') as { compile(input: string): string };
const output = JSON.parse(
  solc.compile(
    JSON.stringify({
      language: 'Solidity',
      sources: Object.fromEntries([...sources].map(([file, content]) => [file, { content }])),
      settings: {
        evmVersion: EVM_VERSION,
        optimizer: { enabled: true, runs: 200 },
        metadata: { bytecodeHash: 'none' },
        outputSelection: { '*': { '*': ['abi', 'evm.bytecode.object', 'evm.deployedBytecode.object'] } },
      },
    }),
  ),
) as CompilerOutput;
const faults = output.errors ?? [];
if (faults.length > 0) throw new Error(faults.map(({ formattedMessage }) => formattedMessage).join('\n'));

const contracts = Object.values(output.contracts).flatMap((file) =>
  Object.entries(file).map(([name, { abi, evm }]) => [
    name,
    { abi, bytecode: `0x${evm.bytecode.object}`, deployedBytecode: `0x${evm.deployedBytecode.object}` },
  ]),
);
const artifacts = { sourcesSha256: sourcesSha256(sources), contracts: Object.fromEntries(contracts) as unknown };
writeFileSync(join(import.meta.dirname, 'artifacts.json'), `${JSON.stringify(artifacts, null, 2)}\n`);
