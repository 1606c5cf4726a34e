/**
 * What can be made to happen on one chain: transfers, blocks, reorgs, prices, frozen accounts. Everything that adds or
 * removes blocks goes through one queue, so that a block that is mined by the clock never falls into a reorg.
 */
import { HDNodeWallet, Mnemonic, toQuantity, Transaction, type Wallet } from 'ethers';
import { FAKE_TOKEN, type FeedName, FEEDS, isTokenName, RELAY, type TokenName, tokensOf } from './addresses.ts';
import { readAddress, readAmount, RELAY_CALLS, USDC_CALLS, USDT_CALLS } from './tokens.ts';
import type { ChainFault } from './faults.ts';
import { type ChainNode, REORG_DEPTH_MAX } from './node.ts';
import { ALWAYS_FRESH, deploy, GAS_LIMIT, priceCall, statusCall } from './setup.ts';
import { BadInput, isObject } from '../kit/input.ts';

export interface Transfer {
  /** A token of this chain, or the address of any other contract that is an ERC-20. */
  readonly token: TokenName | (string & {});
  readonly to: string;
  /** Whole tokens as a decimal string. */
  readonly amount: string;
  /** False: it waits for the next block. */
  readonly mine?: boolean;
  /**
   * Whose tokens they are: any address, without its key. Default: the faucet's. A reorg cannot bring such a transfer
   * back.
   */
  readonly from?: string;
}

/** Tokens of one address, paid to others through a contract: one transaction, and a log for each step. */
export interface Relayed {
  readonly token: TokenName;
  /** Default: the faucet's. */
  readonly from?: string;
  readonly to: readonly { readonly address: string; readonly amount: string }[];
}

export interface Reorg {
  /** How many blocks at the head are replaced by as many others. Transactions that are not named below are gone. */
  readonly depth: number;
  /** `offset` 0 is the first of the new blocks; within a block the order is that of the list. */
  readonly reinclude?: readonly { readonly txHash: string; readonly offset: number }[];
  /** The sender pays somebody else with the same nonce: the old transaction can never come back. */
  readonly replace?: readonly { readonly txHash: string; readonly to: string; readonly offset: number }[];
}

export interface Feed {
  readonly token: FeedName;
  /** USD with up to eight decimals; of the sequencer, '0' for up and '1' for down. */
  readonly answer: string;
  /** Seconds since 1970. Default: a price is updated all the time, a sequencer has changed just now. */
  readonly updatedAt?: number;
}

export interface Sent {
  readonly txHash: string;
  /** Null: not in a block yet. */
  readonly blockNumber: number | null;
  /** False: it was refused by the token (frozen, paused); null while it waits. */
  readonly succeeded: boolean | null;
}

export interface ChainHandle {
  readonly chainId: number;
  /** The node itself, past all faults. */
  readonly anvilUrl: string;
  readonly tokens: Readonly<Record<TokenName, string>>;
  /** Chainlink-shaped aggregators. */
  readonly feeds: Readonly<Record<FeedName, string>>;
  /** Height of the last block. */
  readonly head: number;
  transfer(transfer: Transfer): Promise<Sent>;
  relay(relayed: Relayed): Promise<Sent>;
  /** Returns the new head. */
  mine(blocks?: number): Promise<number>;
  reorg(reorg: Reorg): Promise<void>;
  /** This and the following change the chain by a transaction of their own, in a block of its own. */
  setFeed(feed: Feed): Promise<void>;
  setTransferFee(token: 'USDT', basisPoints: number): Promise<void>;
  setBlacklisted(token: TokenName, address: string, on: boolean): Promise<void>;
  setPaused(token: TokenName, on: boolean): Promise<void>;
  /** A worthless contract logs a transfer of a balance that it never had. */
  fakeTransfer(transfer: { readonly to: string; readonly amount: string }): Promise<Sent>;
  /** The faults of the vendor from now on; null: none. */
  fault(vendor: string, fault: ChainFault | null): void;
}

/** The phrase that every anvil funds its accounts from. It guards nothing. */
const SENDERS_PHRASE = 'test test test test test test test test test test test junk';
const GAS_FEE = 100_000_000_000n;
const GAS_TIP = 1_000_000_000n;
/** Within the gas of one transaction. */
const RELAYED_MAX = 4;
/**
 * A chain on which nothing happens mines at this pace: anvil keeps every block in memory, and a sandbox runs for weeks.
 */
const IDLE_BLOCK_SECONDS = 30;
/** Changes soon after each other are saved together. */
const SAVE_DELAY_MS = 500;

export interface RunningChain extends ChainHandle {
  /** Stops the clock's mining, waits for what is under way and saves the chain. */
  stop(): Promise<void>;
}

export interface ChainOptions {
  readonly chainId: number;
  readonly blockSeconds: number | null;
  readonly slotsInAnEpoch: number;
  readonly fault: (vendor: string, fault: ChainFault | null) => void;
}

/** Puts the contracts in their places on a new chain, and starts the clock's mining. */
export async function openChain(node: ChainNode, options: ChainOptions): Promise<RunningChain> {
  const chain = new Chain(node, options);
  await chain.setUp();
  return chain;
}

class Chain implements RunningChain {
  readonly chainId: number;
  readonly anvilUrl: string;
  readonly tokens: Readonly<Record<TokenName, string>>;
  readonly feeds = FEEDS;
  readonly fault: ChainHandle['fault'];
  /** Parent of all senders. */
  readonly #purse = HDNodeWallet.fromMnemonic(Mnemonic.fromPhrase(SENDERS_PHRASE), "m/44'/60'/0'/0");
  readonly #node: ChainNode;
  readonly #slotsInAnEpoch: number;
  readonly #blockSeconds: number | null;
  #head = 0;
  #senders: string[] = [];
  #nextSender = 0;
  #reorgs = 0;
  #queue: Promise<unknown> = Promise.resolve();
  #clock: NodeJS.Timeout | null = null;
  #emptyBlocks = 0;
  #lastTickBlockMs = 0;
  #savedHead = 0;
  /** The node has no state of earlier blocks, and no reorg can return to one. */
  #floor = 0;
  #saving: NodeJS.Timeout | null = null;

  constructor(node: ChainNode, { chainId, blockSeconds, slotsInAnEpoch, fault }: ChainOptions) {
    this.chainId = chainId;
    this.anvilUrl = node.url;
    this.tokens = tokensOf(chainId);
    this.fault = fault;
    this.#node = node;
    this.#blockSeconds = blockSeconds;
    this.#slotsInAnEpoch = slotsInAnEpoch;
  }

  get head(): number {
    return this.#head;
  }

  async setUp(): Promise<void> {
    this.#senders = (await this.#node.call('eth_accounts')) as string[];
    await this.#readHead();
    if (this.#head === 0) {
      await deploy(this.#node, { tokens: this.tokens, senders: this.#senders });
      await this.#mine(1);
    }
    this.#floor = this.#head;
    this.#savedHead = this.#head;
    this.#saveSoon();
    if (this.#blockSeconds !== null) {
      this.#clock = setInterval(() => this.#tick(), this.#blockSeconds * 1000);
    }
  }

  async stop(): Promise<void> {
    if (this.#clock !== null) clearInterval(this.#clock);
    await this.#inTurn(async () => {
      if (this.#saving !== null) clearTimeout(this.#saving);
      await this.#node.save();
    }).catch((error: unknown) => report(this.chainId, 'not saved', error));
  }

  async transfer({ token, to, amount, mine = true, from }: Transfer): Promise<Sent> {
    const address = isTokenName(token) ? this.tokens[token] : readAddress(token, 'token');
    const data = USDC_CALLS.encodeFunctionData('transfer', [readAddress(to, 'to'), readAmount(amount)]);
    if (from === undefined) return this.#inTurn(() => this.#send(address, data, mine));
    const owner = readAddress(from, 'from');
    return this.#inTurn(() => this.#sendAs(owner, address, data, mine));
  }

  async relay({ token, from, to }: Relayed): Promise<Sent> {
    const owner = from === undefined ? undefined : readAddress(from, 'from');
    const payees = to.map(({ address }) => readAddress(address, 'to'));
    const amounts = to.map(({ amount }) => readAmount(amount));
    if (payees.length === 0 || payees.length > RELAYED_MAX) {
      throw new BadInput(`'to' must have from 1 to ${RELAYED_MAX} entries.`, 'to');
    }
    return this.#inTurn(async () => {
      const payer = owner ?? this.#senders[0]!;
      const approve = USDC_CALLS.encodeFunctionData('approve', [RELAY, amounts.reduce((sum, one) => sum + one, 0n)]);
      await this.#sendAs(payer, this.tokens[token], approve, true);
      const pay = RELAY_CALLS.encodeFunctionData('pay', [this.tokens[token], payer, payees, amounts]);
      // The caller of the contract need not be the owner of the tokens.
      return this.#send(RELAY, pay, true);
    });
  }

  fakeTransfer({ to, amount }: { to: string; amount: string }): Promise<Sent> {
    return this.transfer({ token: FAKE_TOKEN, to, amount });
  }

  mine(blocks = 1): Promise<number> {
    return this.#inTurn(() => this.#mine(blocks));
  }

  async setFeed({ token, answer, updatedAt }: Feed): Promise<void> {
    const data =
      token === 'sequencer'
        ? statusCall(answer, updatedAt ?? Math.floor(Date.now() / 1000))
        : priceCall(answer, updatedAt ?? ALWAYS_FRESH);
    await this.#inTurn(() => this.#send(this.feeds[token], data, true));
  }

  async setTransferFee(_token: 'USDT', basisPoints: number): Promise<void> {
    const data = USDT_CALLS.encodeFunctionData('setFee', [basisPoints]);
    await this.#inTurn(() => this.#send(this.tokens.USDT, data, true));
  }

  async setBlacklisted(token: TokenName, address: string, on: boolean): Promise<void> {
    const account = [readAddress(address, 'address')];
    const data =
      token === 'USDC'
        ? USDC_CALLS.encodeFunctionData(on ? 'blacklist' : 'unBlacklist', account)
        : USDT_CALLS.encodeFunctionData(on ? 'addBlackList' : 'removeBlackList', account);
    await this.#inTurn(() => this.#send(this.tokens[token], data, true));
  }

  async setPaused(token: TokenName, on: boolean): Promise<void> {
    const data = USDC_CALLS.encodeFunctionData(on ? 'pause' : 'unpause');
    await this.#inTurn(() => this.#send(this.tokens[token], data, true));
  }

  async reorg({ depth, reinclude = [], replace = [] }: Reorg): Promise<void> {
    await this.#inTurn(async () => {
      const deepest = Math.min(REORG_DEPTH_MAX, this.#head - this.#floor);
      if (!Number.isInteger(depth) || depth < 1 || depth > deepest) {
        throw new BadInput(`'depth' must be a whole number between 1 and ${deepest} now.`, 'depth');
      }
      const transactions: [raw: unknown, offset: number][] = [];
      for (const { txHash, offset } of reinclude) transactions.push([await this.#rawOf(txHash, 'reinclude'), offset]);
      for (const { txHash, to, offset } of replace) transactions.push([await this.#replacement(txHash, to), offset]);
      for (const [, offset] of transactions) {
        if (!Number.isInteger(offset) || offset < 0 || offset >= depth) {
          throw new BadInput(`'offset' must be a whole number between 0 and ${depth - 1}.`, 'offset');
        }
      }
      // Empty blocks with the same times would have the same hashes as before, and be no reorg at all.
      this.#reorgs += 1;
      const miner = (BigInt(Date.now()) << 32n) + BigInt(this.#reorgs);
      await this.#node.call('anvil_setCoinbase', [`0x${miner.toString(16).padStart(40, '0')}`]);
      await this.#node.call('anvil_reorg', [depth, transactions]);
      await this.#readHead();
      this.#emptyBlocks = 0;
      this.#saveSoon();
    });
  }

  /** Runs `step` when all earlier ones have ended, well or badly. */
  #inTurn<T>(step: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(step);
    this.#queue = result.catch(() => undefined);
    return result;
  }

  #tick(): void {
    this.#inTurn(async () => {
      const { pending, queued } = (await this.#node.call('txpool_status')) as { pending: string; queued: string };
      const waiting = Number(pending) + Number(queued) > 0;
      if (waiting) this.#emptyBlocks = 0;
      // The last payments are final before the pace slows down.
      const idle = this.#emptyBlocks >= 4 * this.#slotsInAnEpoch;
      if (idle && performance.now() - this.#lastTickBlockMs < IDLE_BLOCK_SECONDS * 1000) return;
      this.#lastTickBlockMs = performance.now();
      await this.#mine(1);
      if (!waiting) this.#emptyBlocks += 1;
    }).catch((error: unknown) => report(this.chainId, 'no block', error));
  }

  #saveSoon(): void {
    this.#saving ??= setTimeout(() => {
      this.#saving = null;
      this.#inTurn(async () => {
        await this.#node.save();
        this.#savedHead = this.#head;
      }).catch((error: unknown) => report(this.chainId, 'not saved', error));
    }, SAVE_DELAY_MS);
  }

  async #readHead(): Promise<number> {
    this.#head = Number(await this.#node.call('eth_blockNumber'));
    return this.#head;
  }

  async #mine(blocks: number): Promise<number> {
    if (!Number.isInteger(blocks) || blocks < 1 || blocks > 10_000) {
      throw new BadInput("'blocks' must be a whole number between 1 and 10000.", 'blocks');
    }
    await this.#node.call('anvil_mine', [toQuantity(blocks)]);
    await this.#readHead();
    // A start from the last save then looks like a reorg, never like broken finality.
    if (this.#head - this.#savedHead >= this.#slotsInAnEpoch || this.#emptyBlocks === 0) this.#saveSoon();
    return this.#head;
  }

  /**
   * Each transfer has a sender of its own (until all have had their turn), so that a reorg can take any of them out
   * without leaving a gap in the nonces of the others.
   */
  async #send(to: string, data: string, mine: boolean): Promise<Sent> {
    const index = this.#nextSender;
    this.#nextSender = (index + 1) % this.#senders.length;
    const sender = this.#purse.deriveChild(index);
    const nonce = Number(await this.#node.call('eth_getTransactionCount', [sender.address, 'pending']));
    const raw = await sender.signTransaction(this.#transaction(to, data, nonce));
    return this.#sent((await this.#node.call('eth_sendRawTransaction', [raw])) as string, mine);
  }

  /** In the name of an address whose key nobody here has. */
  async #sendAs(from: string, to: string, data: string, mine: boolean): Promise<Sent> {
    await this.#node.call('anvil_setBalance', [from, toQuantity(GAS_FEE * GAS_LIMIT * 100n)]);
    await this.#node.call('anvil_impersonateAccount', [from]);
    try {
      const call = { from, to, data, gas: toQuantity(GAS_LIMIT), gasPrice: toQuantity(GAS_FEE) };
      return await this.#sent((await this.#node.call('eth_sendTransaction', [call])) as string, mine);
    } finally {
      await this.#node.call('anvil_stopImpersonatingAccount', [from]);
    }
  }

  async #sent(txHash: string, mine: boolean): Promise<Sent> {
    this.#emptyBlocks = 0;
    if (!mine) return { txHash, blockNumber: null, succeeded: null };
    await this.#mine(1);
    const receipt = await this.#node.call('eth_getTransactionReceipt', [txHash]);
    if (!isObject(receipt)) throw new Error(`the transaction ${txHash} was not mined`);
    return { txHash, blockNumber: Number(receipt['blockNumber']), succeeded: receipt['status'] === '0x1' };
  }

  #transaction(to: string, data: string, nonce: number): Parameters<Wallet['signTransaction']>[0] {
    const fees = { gasLimit: GAS_LIMIT, maxFeePerGas: GAS_FEE, maxPriorityFeePerGas: GAS_TIP };
    return { type: 2, chainId: this.chainId, nonce, to, data, ...fees };
  }

  async #rawOf(txHash: string, field: string): Promise<string> {
    const raw = /^0x[0-9a-f]{64}$/i.test(txHash)
      ? await this.#node.call('eth_getRawTransactionByHash', [txHash])
      : null;
    if (typeof raw !== 'string') throw new BadInput(`'${field}' names no transaction of this chain.`, field);
    return raw;
  }

  async #replacement(txHash: string, to: string): Promise<string> {
    const old = Transaction.from(await this.#rawOf(txHash, 'replace'));
    const sender = this.#senders.findIndex((address) => address.toLowerCase() === old.from?.toLowerCase());
    const call = USDC_CALLS.parseTransaction({ data: old.data });
    if (sender === -1 || old.to === null || call?.name !== 'transfer') {
      throw new BadInput("'replace' must name a transfer of this twin.", 'replace');
    }
    const data = USDC_CALLS.encodeFunctionData('transfer', [readAddress(to, 'to'), call.args[1]]);
    return this.#purse.deriveChild(sender).signTransaction(this.#transaction(old.to, data, old.nonce));
  }
}

function report(chainId: number, what: string, error: unknown): void {
  process.stderr.write(`chain twin: chain ${chainId}: ${what}: ${String(error)}\n`);
}
