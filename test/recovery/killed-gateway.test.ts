/**
 * A gateway process that is killed (kill -9) while requests are open: every hold ends, by evidence where somebody must
 * pay, and a gateway started in its place is another one, which inherits nothing and loses nothing.
 */
import assert from 'node:assert/strict';
import { addUsd, formatUsd, picoUsd, usd } from '../../domain/money.ts';
import { orphanWorkflowId } from '../../contract/index.ts';
import { SHORT_DURATIONS, startTestStack, type TestAccount, type TestStack } from '../support/stack.ts';
import { endAfterTests } from './at-end.ts';
import { Chat } from './chat.ts';
import {
  assertLedgerSound,
  balanceAfter,
  balanceOf,
  platformCosts,
  rowOf,
  untilReachableFor,
  untilSettled,
  untilWorkflowEnded,
  type RequestRow,
} from './evidence.ts';
import { until } from '../support/until.ts';

const GONE_SECONDS = Number(SHORT_DURATIONS.GATEWAY_GONE_SECONDS);
/** A minute at the tenth that these durations are of production's. */
const SCALED_MINUTE_SECONDS = 6;
/** What Temporal and a busy machine add, which does not shrink with the durations. */
const MARGIN_SECONDS = 5;
const EVIDENCE_SECONDS = 4;
/** Slow enough that no answer ends while a test runs. */
const ENDLESS = { output_tokens: 1000, chunk_interval_ms: 100 };

describe('a killed gateway', function () {
  this.timeout(60_000);
  const atEnd = endAfterTests();
  let stack: TestStack;
  let account: TestAccount;
  let secret: string;

  before(async () => {
    stack = await startTestStack({
      name: 'killed-gateway',
      env: { EVIDENCE_SECONDS: String(EVIDENCE_SECONDS) },
    });
    atEnd(() => stack.stop());
    // A provider whose look-up knows nothing of our requests.
    await stack.admin.query(
      `update model set upstreams = jsonb_set(upstreams, '{0,lookup}', to_jsonb($1::text)) where id = 'test/large'`,
      [`${stack.twin.url}/_twin/requests/unknown-{request_id}`],
    );
  });
  beforeEach(async () => {
    account = await stack.createAccount('5');
    secret = (await stack.createKey(account)).secret;
    await untilReachableFor(stack, GONE_SECONDS);
  });
  afterEach(() => assertLedgerSound(stack));

  function open(options: { model?: string; stream?: boolean } = {}): Chat {
    return new Chat({ baseUrl: stack.baseUrl, secret }, { twin: ENDLESS, ...options });
  }

  /** Kills the gateway and starts another; resolves with the moment of the kill by the database's clock. */
  async function killAndRestart(): Promise<Date> {
    const { rows } = await stack.admin.query<{ now: Date }>('select clock_timestamp() as now');
    stack.api.signal('SIGKILL');
    await stack.api.exited;
    await stack.startApi();
    return rows[0]!.now;
  }

  function secondsAfter(killedAt: Date, row: RequestRow): number {
    return ((row.finished_at?.getTime() ?? Infinity) - killedAt.getTime()) / 1000;
  }

  it('its open holds end within a scaled minute, unbilled, and what the upstream produced is platform cost', async () => {
    const streamed = open();
    const free = open({ model: 'test/small:free' });
    const whole = open({ stream: false });
    await Promise.all([streamed.untilContent(), free.untilContent()]);
    const wholeId = await until(
      'the whole answer to be under way',
      () => stack.twin.requests().data.find(({ stream, status }) => !stream && status === 'running')?.request_id,
    );
    const killedAt = await killAndRestart();
    for (const end of await Promise.all([streamed, free, whole].map((chat) => chat.ended)))
      assert.equal(end.isWhole, false);

    for (const requestId of [streamed.requestId, free.requestId, wholeId]) {
      const row = await untilSettled(stack, requestId);
      assert.deepEqual([row.state, row.outcome, Number(row.cost)], ['released', 'orphaned', 0]);
      const seconds = secondsAfter(killedAt, row);
      assert.ok(seconds < SCALED_MINUTE_SECONDS + MARGIN_SECONDS, `released ${seconds} s after the kill`);
    }
    for (const requestId of [streamed.requestId, wholeId]) {
      await untilWorkflowEnded(stack, orphanWorkflowId(requestId));
      const costs = await platformCosts(stack, requestId);
      const produced = stack.twin.request(requestId);
      assert.deepEqual(
        costs.map(({ reason, usage }) => [reason, usage['input_tokens'], usage['output_tokens']]),
        [['orphan', produced?.prompt_tokens, produced?.completion_tokens]],
      );
    }
    assert.deepEqual(await balanceOf(stack, account), { balance: balanceAfter('5'), held: '0.000000000000' });
  });

  it('requests whose client had left are billed by the upstream’s own count, or later by an estimate where it knows nothing', async () => {
    const known = open();
    const unknown = open({ model: 'test/large' });
    await Promise.all([known.untilContent(), unknown.untilContent()]);
    known.leave();
    unknown.leave();
    const [, left] = await Promise.all([known, unknown].map(({ requestId }) => untilLeavingNoted(requestId)));
    const killedAt = await killAndRestart();

    const byEvidence = await untilSettled(stack, known.requestId);
    assert.deepEqual(
      [byEvidence.state, byEvidence.outcome, byEvidence.estimated],
      ['charged', 'client_disconnected', false],
    );
    assert.equal(byEvidence.output_tokens, String(stack.twin.request(known.requestId)?.completion_tokens));
    assert.equal(byEvidence.workflow_id, orphanWorkflowId(known.requestId));

    const byEstimate = await untilSettled(stack, unknown.requestId);
    assert.deepEqual(
      [byEstimate.state, byEstimate.outcome, byEstimate.estimated],
      ['charged', 'client_disconnected', true],
    );
    assert.deepEqual([byEstimate.input_tokens, byEstimate.output_tokens], [left?.input_tokens, left?.output_tokens]);
    const inputCost = picoUsd(BigInt(byEstimate.input_tokens ?? 0) * 2_500_000n);
    const outputCost = picoUsd(BigInt(byEstimate.output_tokens ?? 0) * 10_000_000n);
    assert.equal(formatUsd(usd(byEstimate.cost ?? '')), formatUsd(addUsd(inputCost, outputCost)));

    const [soon, later] = [secondsAfter(killedAt, byEvidence), secondsAfter(killedAt, byEstimate)];
    assert.ok(soon < SCALED_MINUTE_SECONDS + MARGIN_SECONDS, `billed by evidence ${soon} s after the kill`);
    assert.ok(later > EVIDENCE_SECONDS, `evidence was looked for until ${later} s after the kill`);
    assert.ok(
      later < SCALED_MINUTE_SECONDS + EVIDENCE_SECONDS + MARGIN_SECONDS,
      `billed by estimate ${later} s after the kill`,
    );
    const { balance } = await balanceOf(stack, account);
    assert.equal(balance, balanceAfter('5', byEvidence.cost, byEstimate.cost));
  });

  function untilLeavingNoted(requestId: string): Promise<RequestRow> {
    return until('the leaving to be noted', async () => {
      const row = await rowOf(stack, requestId);
      return row.client_left_at !== null && row;
    });
  }

  it('a gateway started in its place is another one: its predecessor’s holds end, its own live on', async () => {
    const orphan = open();
    await orphan.untilContent();
    const gatewayBefore = (await rowOf(stack, orphan.requestId)).gateway_id;
    await killAndRestart();
    const heir = new Chat({ baseUrl: stack.baseUrl, secret }, { twin: { output_tokens: 50, chunk_interval_ms: 100 } });
    await heir.untilContent();
    assert.notEqual((await rowOf(stack, heir.requestId)).gateway_id, gatewayBefore);
    assert.equal((await untilSettled(stack, orphan.requestId)).outcome, 'orphaned');
    assert.notEqual((await rowOf(stack, heir.requestId)).outcome, 'orphaned');
    assert.equal((await heir.ended).isWhole, true);
    assert.equal((await untilSettled(stack, heir.requestId)).outcome, 'completed');
  });
});
