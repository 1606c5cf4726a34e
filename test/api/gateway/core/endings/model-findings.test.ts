/** What answers tell about how a provider counts: kept on the model, counted, and alarmed where estimates are many. */
import assert from 'node:assert/strict';
import { pino } from 'pino';
import { createGatewayMetrics } from '../../../../../api/gateway/core/metrics.ts';
import { ModelFindings, type Answered } from '../../../../../api/gateway/core/endings/model-findings.ts';
import { findModel, loadCatalogue } from '../../../../../db/requests/catalogue.ts';
import { createRegistry } from '../../../../../runtime/metrics.ts';
import { createLedgerDatabase, newRequestId, type LedgerDatabase } from '../../../../support/ledger-database.ts';
import { modelOf } from '../../../../support/gateway-upstream.ts';

describe('gateway: findings about models', () => {
  let ledger: LedgerDatabase;
  before(async () => {
    ledger = await createLedgerDatabase('model_findings');
    await loadCatalogue(ledger.management, [
      modelOf({ id: 'test/found', prices: { input: '1', output: '2' }, baseUrl: 'http://127.0.0.1:9/v1' }),
    ]);
  });
  after(() => ledger.database.drop());

  function create(): { findings: ModelFindings; alarms: () => Promise<number>; errors: () => number } {
    const registry = createRegistry('test');
    const bodies = { heldBytes: { small: 0, large: 0 }, slow: 0, waiting: 0 };
    const metrics = createGatewayMetrics(registry, {
      openRequests: () => 0,
      settleQueue: () => 0,
      bodies: () => bodies,
    });
    let errors = 0;
    const logger = pino({ level: 'error' }, { write: () => (errors += 1) });
    const alarms = async (): Promise<number> => {
      const { values } = await metrics.alarms.get();
      return values.find(({ labels }) => labels.alarm === 'estimates')?.value ?? 0;
    };
    return { findings: new ModelFindings({ pool: ledger.gateway, logger, metrics }), alarms, errors: () => errors };
  }

  const answered = (more: Partial<Answered> = {}): Answered => ({
    modelId: 'test/found',
    upstream: '1:127.0.0.1:9',
    requestId: newRequestId(),
    estimated: false,
    findings: [],
    ...more,
  });

  it('are kept on the model with how often and the last example, over several stores', async () => {
    const { findings } = create();
    findings.note(answered({ findings: ['output_above_limit'] }));
    findings.note(answered({ findings: ['output_above_limit', 'total_below_sides'] }));
    await findings.flush();
    const last = answered({ findings: ['output_above_limit'] });
    findings.note(last);
    await findings.flush();
    const model = await findModel(ledger.management, 'test/found');
    assert.deepEqual(model!.findings.map(({ upstream, finding, requests }) => [upstream, finding, requests]).sort(), [
      ['1:127.0.0.1:9', 'output_above_limit', 3],
      ['1:127.0.0.1:9', 'total_below_sides', 1],
    ]);
    assert.equal(model!.findings[0]!.lastRequestId, last.requestId);
  });

  it('raise one alarm once a fifth of at least twenty answers are estimates, and none for a few', async () => {
    const { findings, alarms, errors } = create();
    for (let n = 0; n < 100; n += 1) findings.note(answered({ estimated: n % 10 === 0 }));
    assert.deepEqual([await alarms(), errors()], [0, 0]);
    for (let n = 0; n < 100; n += 1) findings.note(answered({ estimated: true }));
    assert.deepEqual([await alarms(), errors()], [1, 1]);
    findings.note(answered({ modelId: 'test/other', estimated: true }));
    assert.equal(await alarms(), 1, 'one answer of a model says nothing');
  });
});
