/**
 * Customers and staff of a whole Holdfast, each with a token of their own: what they do by the management interface,
 * and what a test waits for them to see there.
 */
import assert from 'node:assert/strict';
import type pg from 'pg';
import { createAccessToken, type TokenRole } from '../../db/accounts/access-tokens.ts';
import { parseId, type AccountUuid, type Id } from '../../domain/ids.ts';
import { usd, type PicoUsd } from '../../domain/money.ts';
import type { TestAccount, TestStack } from './stack.ts';
import { until } from './until.ts';

export interface Answer<T> {
  readonly status: number;
  readonly body: T;
}

/** A top-up as lists and staff show it. */
export interface TopUpView {
  readonly id: string;
  readonly state: string;
  readonly method: string;
  readonly fee_usd: string;
  readonly received_usd: string;
  readonly received_other: readonly { readonly amount: string; readonly currency: string }[];
  readonly credited_usd: string;
  readonly checkout_url: string | null;
  readonly expires_at: string;
}

/** A top-up as its customer reads it alone. */
export interface TopUpDetails extends TopUpView {
  /** Null unless it is paid on a chain. */
  readonly deposit: {
    readonly address: string;
    readonly chains: readonly { readonly chain_id: number; readonly tokens: readonly { readonly symbol: string }[] }[];
  } | null;
  readonly deposits: readonly {
    readonly chain_id: number;
    readonly tx_hash: string;
    readonly token: string;
    readonly amount_usd: string;
    readonly state: string;
    readonly confirmations: number;
    readonly needed: number | null;
  }[];
  readonly labels: readonly string[];
}

/** Somebody who has a token. */
export class Caller {
  readonly token: string;
  protected readonly stack: TestStack;

  constructor(stack: TestStack, token: string) {
    this.stack = stack;
    this.token = token;
  }

  async call<T>(method: string, path: string, body?: unknown): Promise<Answer<T>> {
    const response = await fetch(`${this.stack.baseUrl}${path}`, {
      method,
      headers: { authorization: `Bearer ${this.token}`, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    return { status: response.status, body: (await response.json()) as T };
  }
}

export class Customer extends Caller implements TestAccount {
  readonly uuid: AccountUuid;
  readonly id: Id<'account'>;

  constructor(stack: TestStack, token: string, { uuid, id }: TestAccount) {
    super(stack, token);
    this.uuid = uuid;
    this.id = id;
  }

  /** Orders a top-up of 10 USD, unless `wanted` says otherwise. */
  async order(method: string, wanted: object = {}): Promise<TopUpDetails> {
    const order = { method, amount_usd: '10', ...wanted };
    const { status, body } = await this.call<TopUpDetails>('POST', '/api/top-ups', order);
    assert.equal(status, 201, JSON.stringify(body));
    return body;
  }

  async view(topUpId: string): Promise<TopUpDetails> {
    return (await this.call<TopUpDetails>('GET', `/api/top-ups/${topUpId}`)).body;
  }

  untilState(topUpId: string, state: string, timeoutMs?: number): Promise<TopUpDetails> {
    return until(
      `${topUpId} to be ${state}`,
      async () => {
        const now = await this.view(topUpId);
        return now.state === state && now;
      },
      timeoutMs,
    );
  }

  async balance(): Promise<PicoUsd> {
    const { body } = await this.call<{ balance_usd: string }>('GET', '/api/account');
    return usd(body.balance_usd);
  }

  async untilBalance(amountUsd: string, timeoutMs?: number): Promise<void> {
    const amount = usd(amountUsd);
    await until(`a balance of ${amountUsd}`, async () => (await this.balance()) === amount, timeoutMs);
  }

  /** Amounts of the account's postings of a kind, oldest first, without the zeros at their end. */
  async postings(kind: string): Promise<string[]> {
    const { rows } = await this.stack.admin.query<{ amount: string }>(
      'select trim_scale(amount)::text as amount from posting where kind = $2 and $1 in (debit, credit) order by id',
      [this.uuid, kind],
    );
    return rows.map(({ amount }) => amount);
  }

  /** Takes money from the account as if requests had cost it. */
  async spend(amountUsd: string): Promise<void> {
    await this.stack.admin.query(
      `select post_transfer('spent', uuidv7(), $1, system_account('revenue'), $2, null, false)`,
      [this.uuid, amountUsd],
    );
  }
}

export class Staff extends Caller {
  /** Has the order's run look at its provider now. */
  async recheck(topUpId: string): Promise<TopUpView> {
    const { status, body } = await this.call<TopUpView>('POST', `/admin/top-ups/${topUpId}/recheck`);
    assert.equal(status, 200, JSON.stringify(body));
    return body;
  }

  /** Why an order waits for a person, in the list of those that do. */
  async whyStuck(topUpId: string): Promise<string | undefined> {
    const { body } = await this.call<{ data: { id: string; stuck: string }[] }>('GET', '/admin/top-ups?stuck=true');
    return body.data.find(({ id }) => id === topUpId)?.stuck;
  }
}

/** Gives accounts and tokens out. */
export class People {
  readonly #stack: TestStack;
  readonly #management: pg.Pool;

  constructor(stack: TestStack) {
    this.#stack = stack;
    this.#management = stack.database.pool('management', { max: 2 });
  }

  async customer(balanceUsd = '0'): Promise<Customer> {
    const account = await this.#stack.createAccount(balanceUsd);
    const token = { role: 'account', accountId: account.uuid, name: 'me' } as const;
    const { secret } = await createAccessToken(this.#management, token);
    return new Customer(this.#stack, secret, account);
  }

  /** Each name is another person. */
  async staff(name: string, role: Exclude<TokenRole, 'account'> = 'operator'): Promise<Staff> {
    const { secret } = await createAccessToken(this.#management, { role, accountId: null, name });
    return new Staff(this.#stack, secret);
  }
}

/** The id that an order's checkout has at its provider, which no customer sees; waits until it is there. */
export function checkoutOf(stack: TestStack, topUpId: string): Promise<string> {
  return until(`${topUpId} to have its checkout`, async () => {
    const { rows } = await stack.admin.query<{ provider_id: string | null }>(
      'select provider_id from top_up where id = $1',
      [parseId('topUp', topUpId)],
    );
    return rows[0]!.provider_id;
  });
}
