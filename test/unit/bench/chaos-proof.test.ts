/** The chaos proof itself: a run in which all agrees passes, and each kind of loss or doubling is found and named. */
import assert from 'node:assert/strict';
import { uuidv7 } from 'uuidv7';
import type { CallResult } from '../../../bench/chaos/clients.ts';
import type { Evidence, LogRow, PlatformCost, RequestRecord } from '../../../bench/chaos/evidence.ts';
import { prove } from '../../../bench/chaos/proof.ts';
import { formatId, parseId, uuidOf, type RequestId } from '../../../domain/ids.ts';
import { addUsd, picoUsd, usd, ZERO_USD } from '../../../domain/money.ts';
import { compilePrices, isPriceProblem } from '../../../domain/requests/prices.ts';
import { NO_USAGE } from '../../../domain/usage/usage.ts';

const ACCOUNT = uuidOf('account', uuidv7());
const KEY = uuidOf('key', uuidv7());
const REVENUE = uuidv7();
const MODEL = 'chaos/test';
const CREDIT = usd('5');
/** 10 input tokens at $1 and 20 output tokens at $2 per million. */
const COST = usd('0.00005');

const prices = compilePrices({ prices: { input: '1', output: '2' } });
if (isPriceProblem(prices)) throw new Error('invariant broken: the test prices compile');

/** One request by outcome, with everything that a healthy run leaves of it. */
interface Story {
  readonly row: LogRow;
  readonly record: RequestRecord;
}

function newId(): RequestId {
  return formatId('request', uuidOf('request', uuidv7()));
}

function served(id: string, status: RequestRecord['status'] = 'completed'): RequestRecord {
  const usage = {
    prompt_tokens: 10,
    completion_tokens: 20,
    total_tokens: 30,
    prompt_tokens_details: { cached_tokens: 0, audio_tokens: 0 },
    completion_tokens_details: {
      reasoning_tokens: 0,
      audio_tokens: 0,
      accepted_prediction_tokens: 0,
      rejected_prediction_tokens: 0,
    },
  };
  return {
    ordinal: 1,
    request_id: id,
    model: 'test',
    generation_id: null,
    status,
    stream: false,
    prompt_tokens: 10,
    added_prompt_tokens: 0,
    cached_tokens: 0,
    cache_write_tokens: 0,
    cache_write_1h_tokens: 0,
    prompt_audio_tokens: 0,
    prompt_image_tokens: 0,
    completion_tokens: 20,
    reasoning_tokens: 0,
    audio_tokens: 0,
    image_tokens: 0,
    hidden_tokens: 0,
    web_searches: 0,
    attempts: 1,
    started_at: '2026-01-01T00:00:00.000Z',
    ended_at: '2026-01-01T00:00:01.000Z',
    usage,
  };
}

function story(change: Partial<LogRow> = {}, status: RequestRecord['status'] = 'completed'): Story {
  const id = newId();
  return {
    record: served(id, status),
    row: {
      id,
      accountId: ACCOUNT,
      keyId: KEY,
      model: MODEL,
      state: 'charged',
      outcome: 'completed',
      free: false,
      estimated: false,
      hold: usd('0.001'),
      listCost: COST,
      cost: COST,
      usage: { ...NO_USAGE, inputTokens: 10, outputTokens: 20 },
      priceVersion: 1,
      window: '-infinity',
      workflowId: `meter/${id}`,
      settleError: null,
      ...change,
    },
  };
}

const RELEASED = { state: 'released', cost: ZERO_USD, listCost: ZERO_USD, usage: NO_USAGE } as const;

/** An upstream that broke before it had produced any output. */
function unseen(): Story {
  const { row, record } = story({ ...RELEASED, outcome: 'upstream_error' }, 'failed');
  return { row, record: { ...record, completion_tokens: 0 } };
}

/** An upstream that broke in the middle and told no usage. */
function brokenAfterOutput(): Story {
  return story({ ...RELEASED, outcome: 'upstream_error' }, 'failed');
}

/** The booking of a living gateway for an answer that broke. */
function bookingOf({ id }: LogRow, outputTokens: number): PlatformCost {
  const usage = { ...NO_USAGE, inputTokens: 12, outputTokens };
  return { requestId: id, reason: 'upstream_error', usage, listCost: COST, estimated: true };
}

/** The evidence of a healthy run of these requests. */
function evidenceOf(stories: readonly Story[]): Evidence & { readonly platformCosts: PlatformCost[] } {
  const rows = stories.map(({ row }) => row);
  const spent = addUsd(...rows.map(({ cost }) => cost ?? ZERO_USD));
  return {
    served: stories.map(({ record }) => record),
    log: rows,
    platformCosts: rows
      .filter(({ outcome }) => outcome === 'orphaned')
      .map(({ id }) => ({
        requestId: id,
        reason: 'orphan',
        usage: { ...NO_USAGE, inputTokens: 10, outputTokens: 20 },
        listCost: COST,
        estimated: false,
      })),
    postings: [
      { businessId: uuidv7(), kind: 'adjustment', debit: uuidv7(), credit: ACCOUNT, amount: CREDIT },
      ...rows
        .filter(({ cost }) => (cost ?? ZERO_USD) > 0n)
        .map(({ id, cost }) => ({
          businessId: parseId('request', id)!,
          kind: 'charge',
          debit: ACCOUNT,
          credit: REVENUE,
          amount: cost!,
        })),
    ],
    accounts: [{ id: ACCOUNT, balance: picoUsd(CREDIT - spent), held: ZERO_USD }],
    keys: [
      { id: KEY, held: ZERO_USD, spentTotal: spent, window: '-infinity', windowHeld: ZERO_USD, windowSpent: spent },
    ],
    usageHours: [{ accountId: ACCOUNT, requests: rows.length, cost: spent }],
    prices: new Map([[`${MODEL}@1`, prices]]) as Evidence['prices'],
    hiddenOutputModels: new Set(),
    violations: [],
  };
}

function answer(id: string, shown: CallResult['shown']): CallResult {
  const plan = { n: 0, secret: 's', model: MODEL, stream: false, leavesAfterMs: null, body: '{}' };
  return { plan, end: 'completed', requestId: id, status: 200, error: null, shown };
}

function rulesOf(evidence: Evidence, results: readonly CallResult[] = []): string[] {
  return [...new Set(prove(evidence, results).differences.map(({ rule }) => rule))];
}

describe('chaos proof', () => {
  it('the proof accepts a run whose requests are billed, free, platform cost, estimated or unseen, and names the class of each', () => {
    const evidence = evidenceOf([
      story(),
      story({ ...RELEASED, free: true, priceVersion: null, usage: story().row.usage, workflowId: null }),
      story({ ...RELEASED, outcome: 'orphaned' }, 'aborted'),
      story({ estimated: true, usage: { ...NO_USAGE, inputTokens: 30, outputTokens: 10 } }),
      unseen(),
      brokenAfterOutput(),
    ]);
    evidence.platformCosts.push(bookingOf(evidence.log.at(-1)!, 7));
    const proof = prove(evidence, []);
    assert.deepEqual(proof.differences, []);
    assert.deepEqual(
      Object.entries(proof.classes).filter(([, count]) => count > 0),
      [
        ['billed', 1],
        ['free', 1],
        ['platform cost', 1],
        ['estimated', 2],
        ['unseen', 1],
      ],
    );
    assert.equal(proof.explained.length, 3, 'what could not be compared in full is listed');
  });

  it('expects no price per call where the client left before its upstream was called', () => {
    const left = story({
      outcome: 'client_disconnected',
      cost: ZERO_USD,
      listCost: ZERO_USD,
      usage: NO_USAGE,
    });
    const perCall = new Map([[`${MODEL}@1`, compilePrices({ prices: { request: '0.01' } })]]) as Evidence['prices'];
    assert.deepEqual(rulesOf({ ...evidenceOf([left]), served: [], prices: perCall }), []);
    const rules = ['the list cost is usage times price', 'what an overrun is not charged is platform loss'];
    assert.deepEqual(
      rulesOf({ ...evidenceOf([left]), prices: perCall }).filter((rule) => rules.includes(rule)),
      rules,
    );
  });

  const broken: readonly { readonly what: string; readonly evidence: () => Evidence; readonly rule: string }[] = [
    {
      what: 'a served request without a row',
      evidence: () => ({ ...evidenceOf([story()]), served: [served(newId())] }),
      rule: 'what the upstream served is in the log',
    },
    {
      what: 'a request that was sent upstream twice',
      evidence: () => {
        const { row, record } = story();
        return evidenceOf([{ row, record: { ...record, attempts: 2 } }]);
      },
      rule: 'a request is sent upstream once',
    },
    {
      what: "billed usage that is not the upstream's",
      evidence: () => evidenceOf([story({ usage: { ...NO_USAGE, inputTokens: 8, outputTokens: 21 } })]),
      rule: "the usage is the upstream's own",
    },
    {
      what: 'an orphan whose usage nobody booked',
      evidence: () => ({ ...evidenceOf([story({ ...RELEASED, outcome: 'orphaned' }, 'aborted')]), platformCosts: [] }),
      rule: "the usage is the upstream's own",
    },
    {
      what: 'an answer that broke after some output and is booked nowhere',
      evidence: () => evidenceOf([brokenAfterOutput()]),
      rule: "the usage is the upstream's own",
    },
    {
      what: 'an answer that broke after some output and is booked without it',
      evidence: () => {
        const evidence = evidenceOf([brokenAfterOutput()]);
        return { ...evidence, platformCosts: [bookingOf(evidence.log[0]!, 0)] };
      },
      rule: 'what was produced is not booked as nothing',
    },
    {
      what: 'an estimate above what was produced',
      evidence: () =>
        evidenceOf([
          story({
            estimated: true,
            usage: { ...NO_USAGE, inputTokens: 10, outputTokens: 25 },
            cost: usd('0.00006'),
            listCost: usd('0.00006'),
          }),
        ]),
      rule: 'an estimate counts only what was produced',
    },
    {
      what: 'a charge for what was never served',
      evidence: () => ({ ...evidenceOf([story()]), served: [] }),
      rule: 'only what the upstream served is charged',
    },
    {
      what: 'a hold that never ended',
      evidence: () => evidenceOf([story({ state: 'held', outcome: null, cost: null, listCost: null })]),
      rule: 'every hold has ended',
    },
    {
      what: 'a settled request without a workflow',
      evidence: () => evidenceOf([story({ workflowId: null })]),
      rule: 'every settled request names its workflow',
    },
    {
      what: 'a cost that is not usage times price',
      evidence: () => evidenceOf([story({ cost: usd('0.00004'), listCost: usd('0.00004') })]),
      rule: 'the list cost is usage times price',
    },
    {
      what: 'a charge below the list cost whose rest is in no book',
      evidence: () => evidenceOf([story({ cost: usd('0.00004') })]),
      rule: 'what an overrun is not charged is platform loss',
    },
    {
      what: 'a charge that was posted twice',
      evidence: () => {
        const evidence = evidenceOf([story()]);
        return { ...evidence, postings: [...evidence.postings, evidence.postings.at(-1)!] };
      },
      rule: 'a charge is posted once',
    },
    {
      what: 'a charge without a request',
      evidence: () => {
        const evidence = evidenceOf([story()]);
        return {
          ...evidence,
          postings: [...evidence.postings, { ...evidence.postings.at(-1)!, businessId: uuidv7() }],
        };
      },
      rule: 'every charge belongs to a request',
    },
    {
      what: 'a balance that is not credits minus costs',
      evidence: () => ({
        ...evidenceOf([story()]),
        accounts: [{ id: ACCOUNT, balance: CREDIT, held: ZERO_USD }],
      }),
      rule: 'the balance is credits minus costs',
    },
    {
      what: 'money that stays held',
      evidence: () => {
        const evidence = evidenceOf([story()]);
        return { ...evidence, accounts: evidence.accounts.map((account) => ({ ...account, held: COST })) };
      },
      rule: 'nothing is held',
    },
    {
      what: "a key's counter that is not its costs",
      evidence: () => {
        const evidence = evidenceOf([story()]);
        return { ...evidence, keys: evidence.keys.map((key) => ({ ...key, spentTotal: ZERO_USD })) };
      },
      rule: "a key's spending is its costs",
    },
    {
      what: 'trends that miss a request',
      evidence: () => ({ ...evidenceOf([story()]), usageHours: [{ accountId: ACCOUNT, requests: 2, cost: COST }] }),
      rule: 'usage trends count every request',
    },
    {
      what: "a line in the ledger's own list of violations",
      evidence: () => ({
        ...evidenceOf([story()]),
        violations: [{ rule: 'some_rule', subject: 's', stored: '1', expected: '2' }],
      }),
      rule: 'violations: some_rule',
    },
  ];
  for (const { what, evidence, rule } of broken) {
    it(`the proof finds ${what}`, () => {
      assert.ok(rulesOf(evidence()).includes(rule), `found instead: ${rulesOf(evidence()).join('; ')}`);
    });
  }

  it('the proof finds a client that was shown another bill than it got', () => {
    const told = story();
    const shown = { promptTokens: 10, completionTokens: 20, costUsd: '0.00005', estimated: false };
    const evidence = evidenceOf([told]);
    assert.deepEqual(rulesOf(evidence, [answer(told.row.id, shown)]), []);
    assert.deepEqual(rulesOf(evidence, [answer(told.row.id, { ...shown, costUsd: '0.00006' })]), [
      'the cost shown is the cost charged',
    ]);
    assert.deepEqual(rulesOf(evidence, [answer(told.row.id, { ...shown, completionTokens: 21 })]), [
      'the usage shown is the usage logged',
    ]);
  });

  it('the proof finds a client that got a failure and was charged nevertheless', () => {
    const told = story();
    const failed: CallResult = { ...answer(told.row.id, null), end: 'refused', status: 502, error: 'upstream_failed' };
    assert.deepEqual(rulesOf(evidenceOf([told]), [failed]), ['a client that gets a failure is not charged']);
  });

  it('the proof finds a client that was refused for a fault of ours', () => {
    const refused: CallResult = {
      ...answer(story().row.id, null),
      end: 'refused',
      status: 404,
      error: 'model_not_found',
    };
    assert.deepEqual(rulesOf(evidenceOf([]), [refused]), ['a fault of ours is not told as a refusal']);
    assert.deepEqual(rulesOf(evidenceOf([]), [{ ...refused, status: 503, error: 'ledger_unavailable' }]), []);
  });
});
