/**
 * What is logged of refused requests: a line at cost 0 that says why, and never more of them than a database can bear.
 */
import assert from 'node:assert/strict';
import type OpenAI from 'openai';
import {
  addKey,
  createCustomer,
  errorOf,
  MESSAGES,
  openAiClient,
  post,
  refusalOf,
  STACK_START_MS,
  type Customer,
} from '../../../../support/gateway-client.ts';
import { startTestStack, type TestStack } from '../../../../support/stack.ts';
import { until } from '../../../../support/until.ts';

describe('gateway: the log of refusals', () => {
  let stack: TestStack;

  before(async function () {
    this.timeout(STACK_START_MS);
    stack = await startTestStack({ name: 'gateway-refusal-log', worker: false });
  });
  after(() => stack.stop());

  const chat = (openai: OpenAI, more: object = {}): PromiseLike<unknown> =>
    openai.chat.completions.create({ model: 'test/small', messages: MESSAGES, ...more });

  async function refusedRows(customer: Customer): Promise<Record<string, unknown>[]> {
    const { rows } = await stack.admin.query<Record<string, unknown>>(
      `select model_id, state, refusal_code, hold, list_cost, cost, stream, workflow_id, input_tokens, settled_at is not null as settled
       from request where key_id = $1 and outcome = 'refused' order by id`,
      [customer.keyId],
    );
    return rows;
  }

  async function metric(name: string): Promise<number> {
    const text = await (await fetch(stack.metricsUrl)).text();
    const line = text
      .split('\n')
      .find((candidate) => candidate.startsWith(`${name} `) || candidate.startsWith(`${name}{`));
    return Number(line?.split(' ').at(-1) ?? 0);
  }

  it('a refusal is a row at cost 0 with its code, model and no workflow', async () => {
    const customer = await createCustomer(stack, '0');
    await errorOf(chat(customer.openai, { stream: true }));
    const [row] = await until('the refusal to be logged', async () => {
      const rows = await refusedRows(customer);
      return rows.length > 0 && rows;
    });
    assert.deepEqual(row, {
      model_id: 'test/small',
      state: 'released',
      refusal_code: 'insufficient_user_quota',
      hold: '0',
      list_cost: '0',
      cost: '0',
      stream: true,
      workflow_id: null,
      input_tokens: null,
      settled: true,
    });
  });

  it('a key that is hammered is logged at most once a second; the rest is counted', async () => {
    const hammered = await createCustomer(stack, '0');
    const other = await createCustomer(stack, '0');
    const suppressed = await metric('holdfast_gateway_refusals_not_logged_total');
    const begin = performance.now();
    let sent = 0;
    while (performance.now() - begin < 1500) {
      await Promise.all(Array.from({ length: 5 }, () => errorOf(chat(hammered.openai))));
      sent += 5;
    }
    await errorOf(chat(other.openai));
    await until('the other key to be logged', async () => (await refusedRows(other)).length === 1);
    const logged = (await refusedRows(hammered)).length;
    const seconds = (performance.now() - begin) / 1000;
    assert.ok(logged >= 1 && logged <= Math.ceil(seconds), `${logged} rows in ${seconds.toFixed(1)} s`);
    assert.equal((await metric('holdfast_gateway_refusals_not_logged_total')) - suppressed, sent - logged);
  });

  it('a hundred keys of one account are logged as five rows a second, and nobody else loses a line', async () => {
    const first = await createCustomer(stack, '0');
    const other = await createCustomer(stack, '0');
    const keys = [first, ...(await Promise.all(Array.from({ length: 99 }, () => addKey(stack, first.account))))];
    const suppressed = await metric('holdfast_gateway_refusals_not_logged_total');
    const begin = performance.now();
    await Promise.all(keys.map(({ openai }) => errorOf(chat(openai))));
    await errorOf(chat(other.openai));
    await until('the other account to be logged', async () => (await refusedRows(other)).length === 1);
    const seconds = Math.ceil((performance.now() - begin) / 1000);
    const { rows } = await stack.admin.query(`select from request where account_id = $1 and outcome = 'refused'`, [
      first.account.uuid,
    ]);
    assert.ok(rows.length >= 5 && rows.length <= 5 * seconds, `${rows.length} rows in ${seconds} s`);
    assert.equal((await metric('holdfast_gateway_refusals_not_logged_total')) - suppressed, 100 - rows.length);
  });

  it('unknown keys are only counted', async () => {
    const count = `select count(*)::int as n from request where outcome = 'refused'`;
    const name = 'holdfast_gateway_refusals_total{code="invalid_api_key"';
    const counted = async (): Promise<number> => {
      const text = await (await fetch(stack.metricsUrl)).text();
      return Number(
        text
          .split('\n')
          .find((line) => line.startsWith(name))
          ?.split(' ')
          .at(-1) ?? 0,
      );
    };
    const before = await counted();
    const rows = (await stack.admin.query<{ n: number }>(count)).rows[0]!.n;
    await errorOf(chat(openAiClient(stack, 'sk-hf-unknown')));
    const marker = await createCustomer(stack, '0');
    await errorOf(chat(marker.openai));
    await until('a later refusal to be logged', async () => (await refusedRows(marker)).length === 1);
    assert.equal((await stack.admin.query<{ n: number }>(count)).rows[0]!.n, rows + 1);
    assert.equal(await counted(), before + 1);
  });

  it('a model name that a database cannot store costs nobody else their log line', async () => {
    const odd = await createCustomer(stack, '1');
    const other = await createCustomer(stack, '0');
    const refusal = await refusalOf(await post(stack, odd.secret, { model: 'a\u0000b', messages: MESSAGES }));
    assert.equal(refusal.code, 'model_not_found');
    await errorOf(chat(other.openai));
    await until('both refusals to be logged', async () => (await refusedRows(other)).length === 1, 3000);
    assert.equal((await refusedRows(odd)).length, 1);
  });
});
