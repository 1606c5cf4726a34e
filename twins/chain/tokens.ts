/** The contracts of a test chain: their code, how they are called, and how amounts and addresses are read. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { getAddress, Interface, type InterfaceAbi, parseUnits } from 'ethers';
import { BadInput } from '../kit/input.ts';

export type ContractName = 'Usd6' | 'UsdtLike' | 'FakeUsd' | 'PriceFeed' | 'Relay';

interface Artifact {
  readonly abi: InterfaceAbi;
  readonly bytecode: string;
  readonly deployedBytecode: string;
}

export const ARTIFACTS_FILE = join(import.meta.dirname, './solidity/artifacts.json');
export const ARTIFACTS = JSON.parse(readFileSync(ARTIFACTS_FILE, 'utf8')) as {
  readonly sourcesSha256: string;
  readonly contracts: Readonly<Record<ContractName, Artifact>>;
};

const interfaceOf = (name: ContractName): Interface => new Interface(ARTIFACTS.contracts[name].abi);
export const USDC_CALLS = interfaceOf('Usd6');
export const USDT_CALLS = interfaceOf('UsdtLike');
export const FEED_CALLS = interfaceOf('PriceFeed');
export const RELAY_CALLS = interfaceOf('Relay');

export const TOKEN_DECIMALS = 6;
export const PRICE_DECIMALS = 8;

/** A decimal string of whole tokens, as the number of smallest units. */
export function readAmount(text: string, field = 'amount'): bigint {
  if (!/^\d{1,12}(\.\d{1,6})?$/.test(text)) {
    throw new BadInput(`'${field}' must be a decimal string with at most ${TOKEN_DECIMALS} decimals.`, field);
  }
  return parseUnits(text, TOKEN_DECIMALS);
}

export function readAddress(text: string, field: string): string {
  // Hex of one case carries no checksum; mixed case is one, and a wrong one is a typing error that would cost real
  // money.
  if (!/^0x[0-9a-fA-F]{40}$/.test(text)) throw new BadInput(`'${field}' must be an address (0x and 40 digits).`, field);
  try {
    return getAddress(text);
  } catch {
    throw new BadInput(`'${field}' has a wrong checksum: a digit is mistyped.`, field);
  }
}
