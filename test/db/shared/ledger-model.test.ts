/**
 * The ledger against a bigint model: random sequences of everything that can happen to accounts, keys and requests,
 * scalar and batched, repeated and late. After each step the whole database must equal the model, and no rule of the
 * `violations` view may be broken.
 *
 * A failure prints the shrunk sequence with its seed; `HOLDFAST_TEST_SEED=<seed>` runs it again, and
 * `HOLDFAST_TEST_SEQUENCES=<n>` runs more (or fewer) than the suite does.
 */
import assert from 'node:assert/strict';
import { inspect } from 'node:util';
import fc from 'fast-check';
import { createAccount } from '../../../db/accounts/accounts.ts';
import { createApiKey } from '../../../db/accounts/api-keys.ts';
import { picoUsd, type PicoUsd } from '../../../domain/money.ts';
import { uuidOf } from '../../../domain/ids.ts';
import {
  applyToDatabase,
  applyToModel,
  openHolds,
  type CallAnswer,
  type LedgerCall,
} from '../../support/ledger-calls.ts';
import {
  brokenRules,
  createLedgerDatabase,
  emptyLedger,
  uuidAt,
  type LedgerDatabase,
} from '../../support/ledger-database.ts';
import { LedgerModel } from '../../support/ledger-model.ts';
import {
  isRepeatable,
  operation,
  Story,
  worldPlan,
  type Operation,
  type WorldPlan,
} from '../../support/ledger-operations.ts';
import { snapshotOfDatabase, snapshotOfModel, type LedgerSnapshot } from '../../support/ledger-snapshot.ts';
import { ANN } from '../../support/staff.ts';

const SEQUENCES = Number(process.env['HOLDFAST_TEST_SEQUENCES'] ?? 200);
const SEED = process.env['HOLDFAST_TEST_SEED'];
/** A sequence takes about 0.15 s; many times that is a hang. */
const SEQUENCE_MS_MAX = 1000;

describe('ledger', function () {
  this.timeout(60_000 + SEQUENCES * SEQUENCE_MS_MAX);
  let ledger: LedgerDatabase;

  before(async () => {
    ledger = await createLedgerDatabase('ledger_model', 1);
  });
  after(() => ledger.database.drop());

  it('equals the bigint model after every step of random operations', () =>
    fc.assert(
      fc.asyncProperty(worldPlan, fc.array(operation, { minLength: 1, maxLength: 60, size: 'max' }), tellStory),
      { numRuns: SEQUENCES, ...(SEED === undefined ? {} : { seed: Number(SEED) }) },
    ));

  async function tellStory(plan: WorldPlan, operations: readonly Operation[]): Promise<void> {
    await emptyLedger(ledger.admin);
    const story = new Story(await makeWorld(plan));
    await assertEqual(story);
    for (const planned of operations) {
      const call = story.callOf(planned);
      if (call === null) continue;
      const answer = await step(story, call);
      // As the gateway does: what a batch leaves open gets its verdict alone.
      for (const hold of openHolds(call, answer)) await step(story, { type: 'placeHold', hold });
    }
  }

  async function makeWorld({ balances, keys }: WorldPlan): Promise<LedgerModel> {
    const model = new LedgerModel();
    const accounts = [];
    for (const balance of balances) {
      const { id } = await createAccount(ledger.management, { name: 'Customer', email: null });
      model.addAccount(id);
      accounts.push(id);
      if (balance === 0n) continue;
      const [amount, threshold] = [picoUsd(balance), picoUsd(balance)];
      const adjustmentId = uuidOf('adjustment', uuidAt(Date.now()));
      await both(model, { type: 'adjust', id: adjustmentId, accountId: id, amount, requestedBy: ANN, threshold });
    }
    for (const { account, limit, limitReset, models } of keys) {
      const accountId = accounts[account % accounts.length]!;
      const settings = { limit: limit as PicoUsd | null, limitReset, models };
      const { key } = await createApiKey(ledger.management, {
        ...settings,
        accountId,
        name: 'Key',
        expiresAt: null,
        ipAllowlist: null,
      });
      model.addKey({ id: key.id, accountId, ...settings });
    }
    return model;
  }

  async function step(story: Story, call: LedgerCall): Promise<CallAnswer> {
    const answer = await both(story.model, call);
    const snapshot = await assertEqual(story, call);
    const repeated = story.calls.at(-1) === call;
    story.calls.push(call);
    if (!repeated && isRepeatable(call) && !('refused' in answer)) {
      await applyToDatabase(ledger, call);
      assert.deepEqual(await snapshotOfDatabase(ledger.admin), snapshot, `a repeat changed something: ${shown(call)}`);
    }
    return answer;
  }

  async function both(model: LedgerModel, call: LedgerCall): Promise<CallAnswer> {
    const expected = applyToModel(model, call, Date.now());
    const actual = await applyToDatabase(ledger, call);
    assert.deepEqual(actual, expected, `the answer differs: ${shown(call)}`);
    return actual;
  }

  async function assertEqual({ model }: Story, call?: LedgerCall): Promise<LedgerSnapshot> {
    const snapshot = await snapshotOfDatabase(ledger.admin);
    assert.deepEqual(snapshot, snapshotOfModel(model, Date.now()), `the state differs after ${shown(call)}`);
    for (const { id, reversed } of model.accounts.values()) {
      const { available } = model.balanceOf(id);
      assert.ok(reversed || available >= 0n, `${id} is overspent after ${shown(call)}: ${available}`);
    }
    assert.deepEqual(await brokenRules(ledger.admin), [], `violations after ${shown(call)}`);
    return snapshot;
  }
});

function shown(call: LedgerCall | undefined): string {
  return inspect(call, { depth: 4, breakLength: 160 });
}
