/** Refunds through the real workflow: posted once, with a reason, above the threshold by a second person. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { Connection, WorkflowUpdateFailedError } from '@temporalio/client';
import { NativeConnection, Worker } from '@temporalio/worker';
import { createRefundActivities } from '../../../../../activities/requests/refunds.ts';
import { createAccessToken } from '../../../../../db/accounts/access-tokens.ts';
import { requestRefund } from '../../../../../db/requests/refunds.ts';
import { formatId, type RequestUuid } from '../../../../../domain/ids.ts';
import { usd } from '../../../../../domain/money.ts';
import { provisionNamespaces } from '../../../../../worker/provision.ts';
import {
  decideRefundUpdate,
  refundWorkflowId,
  SEARCH_ATTRIBUTES,
  type Namespaces,
} from '../../../../../contract/index.ts';
import { brokenRules, createCustomer, createKey, newRequestId } from '../../../../support/ledger-database.ts';
import { testServices } from '../../../../support/services.ts';
import { startTcpProxy, type TcpProxy } from '../../../../support/tcp-proxy.ts';
import { productBundle, quietTemporalRuntime } from '../../../../support/workflow-environment.ts';
import {
  finishedRequest,
  pick,
  refusal,
  rowsOf,
  settledRequest,
  startManagement,
  textOf,
  tokenOf,
  type Answer,
  type Management,
} from '../../management.ts';
import { ADA } from '../../../../support/staff.ts';

function someNamespaces(): Namespaces {
  const suffix = randomBytes(4).toString('hex');
  return { requests: `test-refund-requests-${suffix}`, processes: `test-refund-processes-${suffix}` };
}

/** Polls until `read` gives something other than null. */
async function eventually<T>(what: string, read: () => Promise<T | null>): Promise<T> {
  for (const deadline = performance.now() + 15_000; ;) {
    const value = await read();
    if (value !== null) return value;
    assert.ok(performance.now() < deadline, `${what} within 30 s`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

describe('/admin refunds', function () {
  // The product's workflow bundle takes some seconds to build, once per process.
  this.timeout(60_000);

  let connection: Connection;
  before(async () => {
    quietTemporalRuntime();
    connection = await Connection.connect({ address: testServices().temporalAddress });
  });
  after(() => connection.close());

  const amountOf = (row: Record<string, unknown>): unknown[] => pick(row, 'n', 'amount_usd', 'state');

  const refundsOf = async (management: Management, requestId: RequestUuid) => {
    const { body } = await management.call('GET', `/admin/requests/${formatId('request', requestId)}`);
    return body['refunds'] as Record<string, unknown>[];
  };

  describe('with Temporal', () => {
    const namespaces = someNamespaces();
    let management: Management;
    let proxy: TcpProxy;
    let native: NativeConnection;
    let worker: Worker;
    let running: Promise<void>;
    let second: string;

    before(async () => {
      await provisionNamespaces(connection, namespaces);
      const [host = '', port = ''] = testServices().temporalAddress.split(':');
      proxy = await startTcpProxy({ host, port: Number(port) });
      management = await startManagement('routes_refunds', { temporal: { address: proxy.address, namespaces } });
      native = await NativeConnection.connect({ address: testServices().temporalAddress });
      worker = await Worker.create({
        connection: native,
        namespace: namespaces.processes,
        taskQueue: namespaces.processes,
        workflowBundle: await productBundle(),
        activities: createRefundActivities({ pool: management.worker }),
      });
      running = worker.run();
      ({ secret: second } = await createAccessToken(management.management, {
        role: 'finance',
        accountId: null,
        name: 'second',
      }));
    });
    after(async () => {
      assert.deepEqual(await brokenRules(management.admin), []);
      worker.shutdown();
      await running;
      await native.close();
      await management.stop();
      await proxy.close();
    });

    const refund = (
      requestId: RequestUuid,
      body: object,
      options: { token?: string; key?: string } = {},
    ): Promise<Answer> =>
      management.call('POST', `/admin/requests/${formatId('request', requestId)}/refund`, {
        token: options.token ?? management.tokens.finance,
        body: { reason: 'the answer was nonsense', ...body },
        ...(options.key === undefined ? {} : { headers: { 'idempotency-key': options.key } }),
      });
    const decide = (
      requestId: RequestUuid,
      n: number,
      decision: 'approve' | 'reject',
      token = second,
    ): Promise<Answer> =>
      management.call('POST', `/admin/requests/${formatId('request', requestId)}/refunds/${n}/${decision}`, { token });

    const untilDecided = (requestId: RequestUuid, n: number) =>
      eventually('a decided refund', async () => {
        const row = (await refundsOf(management, requestId)).find((one) => one['n'] === n);
        return row !== undefined && row['state'] !== 'waiting' ? row : null;
      });

    /** A charged request of a customer of its own, with its token. */
    async function charged(cost: string): Promise<{ requestId: RequestUuid; token: string }> {
      const accountId = await createCustomer(management, '50');
      const hold = { accountId, keyId: await createKey(management, accountId), wanted: usd('50'), least: usd('50') };
      return {
        requestId: await settledRequest(management, cost, { hold }),
        token: await tokenOf(management, 'account', accountId),
      };
    }
    const balance = async (token: string) =>
      (await management.call('GET', '/api/account', { token })).body['balance_usd'];

    it('refunds up to the threshold are posted by one person, and everything shows them', async () => {
      const { requestId, token } = await charged('0.75');
      assert.equal(await balance(token), '49.250000000000');
      const asked = await refund(requestId, { amount_usd: '0.5' }, { token: management.tokens.support });
      assert.equal(asked.status, 202);
      assert.deepEqual(pick(asked.body, 'n', 'amount_usd', 'state', 'needs_approval'), [
        1,
        '0.500000000000',
        'posted',
        false,
      ]);
      const posted = await untilDecided(requestId, 1);
      assert.deepEqual(pick(posted, 'state', 'requested_by', 'decided_by'), [
        'posted',
        asked.body['requested_by'],
        asked.body['requested_by'],
      ]);
      assert.equal(await balance(token), '49.750000000000');

      const receipt = await management.call('GET', `/api/logs/${formatId('request', requestId)}`, { token });
      assert.deepEqual(pick(receipt.body, 'cost_usd', 'refunded_usd'), ['0.750000000000', '0.500000000000']);
      const events = (receipt.body['timeline'] as { event: string }[]).map(({ event }) => event);
      assert.deepEqual(events, ['held', 'finished', 'charged', 'refund_requested', 'refund_posted']);
      const postings = receipt.body['postings'] as { kind: string; amount_usd: string }[];
      assert.deepEqual(
        postings.map(({ kind, amount_usd }) => [kind, amount_usd]),
        [
          ['charge', '-0.750000000000'],
          ['request_refund', '0.500000000000'],
        ],
      );
      assert.ok(!receipt.text.includes('the support'), 'staff stay unnamed to customers');
      const posting = await management.call('GET', `/admin/postings/${textOf(posted, 'posting_id')}`);
      assert.equal(posting.body['business_id'], posted['id']);
    });

    it('a refund shows its workflow with its status and its page in the Temporal UI', async () => {
      const { requestId } = await charged('0.1');
      await refund(requestId, {});
      await untilDecided(requestId, 1);
      const id = formatId('request', requestId);
      const workflowId = refundWorkflowId(id, 1);
      const completed = await eventually('a completed workflow', async () => {
        const { body } = await management.call('GET', `/admin/requests/${id}`);
        const workflows = body['workflows'] as Record<string, unknown>[];
        return workflows.some((row) => row['status'] === 'completed') ? workflows : null;
      });
      assert.deepEqual(completed, [
        {
          type: 'meterRequests',
          workflow_id: `meter/${id}`,
          namespace: namespaces.requests,
          status: 'not_found',
          url: `http://ui.test/namespaces/${namespaces.requests}/workflows/${encodeURIComponent(`meter/${id}`)}`,
        },
        {
          type: 'refundRequest',
          workflow_id: workflowId,
          namespace: namespaces.processes,
          status: 'completed',
          url: `http://ui.test/namespaces/${namespaces.processes}/workflows/${encodeURIComponent(workflowId)}`,
        },
      ]);
      const handle = management.deps.temporal.processes.workflow.getHandle(workflowId);
      const { typedSearchAttributes } = await handle.describe();
      assert.match(typedSearchAttributes.get(SEARCH_ATTRIBUTES.accountId) ?? '', /^acct_/);
    });

    it('a refund above the threshold waits for a second person other than its requester', async () => {
      const { requestId, token } = await charged('3');
      const asked = await refund(requestId, {});
      assert.deepEqual(pick(asked.body, 'amount_usd', 'needs_approval'), ['3.000000000000', true]);
      const approvals = await management.call('GET', '/admin/approvals');
      assert.deepEqual(pick(rowsOf(approvals.body)[0]!, 'kind', 'id', 'request_id', 'n'), [
        'refund',
        asked.body['id'],
        formatId('request', requestId),
        1,
      ]);
      const own = await decide(requestId, 1, 'approve', management.tokens.finance);
      assert.deepEqual(refusal(own), { status: 403, code: 'forbidden', param: null });
      const body = { role: 'operator', name: 'another' };
      const first = await management.call('POST', '/admin/tokens', { body });
      const other = await charged('3');
      await refund(other.requestId, {}, { token: management.tokens.operator });
      const made = await decide(other.requestId, 1, 'approve', textOf(first.body, 'secret'));
      assert.deepEqual(refusal(made), { status: 403, code: 'forbidden', param: null });
      assert.deepEqual(
        rowsOf((await management.call('GET', `/admin/actions?action=refund.approve`)).body),
        [],
        'what is refused is not on record as done',
      );
      assert.equal(await balance(token), '47.000000000000');
      const approved = await decide(requestId, 1, 'approve');
      assert.equal(approved.status, 200);
      assert.match(String(approved.body['decided_by']), /^second /);
      assert.equal(await balance(token), '50.000000000000');
      assert.deepEqual((await decide(requestId, 1, 'approve')).body, approved.body);
      assert.equal(refusal(await decide(requestId, 1, 'reject')).status, 409);
      assert.equal(await balance(token), '50.000000000000');
      const actions = await management.call('GET', `/admin/actions?subject=${textOf(asked.body, 'id')}`);
      assert.deepEqual(
        rowsOf(actions.body).map((row) => row['action']),
        ['refund.approve', 'refund.request'],
      );
    });

    it('a refund can be rejected, also by its requester, and then requested again', async () => {
      const { requestId, token } = await charged('3');
      await refund(requestId, {});
      assert.equal(refusal(await refund(requestId, { amount_usd: '0.1' })).status, 409);
      const rejected = await decide(requestId, 1, 'reject', management.tokens.finance);
      assert.deepEqual(pick(rejected.body, 'state', 'posting_id'), ['rejected', null]);
      assert.equal(refusal(await decide(requestId, 1, 'approve')).status, 409);
      assert.equal(await balance(token), '47.000000000000');
      assert.equal((await refund(requestId, { amount_usd: '0.1' })).body['n'], 2);
      assert.equal((await untilDecided(requestId, 2))['state'], 'posted');
    });

    it('refunds of one request count together, so that splitting does not evade the threshold', async () => {
      const { requestId } = await charged('3');
      assert.equal((await refund(requestId, { amount_usd: '0.6' })).body['needs_approval'], false);
      assert.equal((await refund(requestId, { amount_usd: '0.4' })).body['needs_approval'], false);
      assert.equal((await refund(requestId, { amount_usd: '0.000000000001' })).body['needs_approval'], true);
      const support = await refund(requestId, { amount_usd: '0.1' }, { token: management.tokens.support });
      assert.deepEqual(refusal(support), { status: 403, code: 'forbidden', param: 'amount_usd' });
      assert.equal((await refundsOf(management, requestId)).length, 3, 'what support may not do is not recorded');
    });

    it('refunds never exceed the charge, and an uncharged request has none', async () => {
      const { requestId } = await charged('0.2');
      const tooMuch = await refund(requestId, { amount_usd: '0.200000000001' });
      assert.deepEqual(refusal(tooMuch), { status: 409, code: 'conflict', param: 'amount_usd' });
      assert.match(tooMuch.text, /available: 0\.2/);
      const failed = await settledRequest(management, '0', { end: { outcome: 'upstream_error' } });
      assert.equal(refusal(await refund(failed, {})).status, 409);
      assert.equal(refusal(await refund(await finishedRequest(management, '0.1'), {})).status, 409);
      assert.equal(refusal(await refund(newRequestId(), {})).code, 'not_found');
      assert.equal(refusal(await decide(requestId, 1, 'approve')).code, 'not_found');
    });

    it('refunds requested by many at once add up to the charge and no more', async () => {
      const { requestId, token } = await charged('0.5');
      const answers = await Promise.all(Array.from({ length: 10 }, () => refund(requestId, { amount_usd: '0.1' })));
      assert.equal(answers.filter(({ status }) => status === 202).length, 5);
      for (const n of [1, 2, 3, 4, 5]) await untilDecided(requestId, n);
      assert.equal(await balance(token), '50.000000000000');
    });

    it('a refund with an Idempotency-Key is requested once, for any number of calls', async () => {
      const { requestId, token } = await charged('0.5');
      const answers = await Promise.all(
        Array.from({ length: 6 }, () => refund(requestId, { amount_usd: '0.2' }, { key: 'refund-once' })),
      );
      for (const answer of answers) assert.deepEqual([answer.status, answer.body], [202, answers[0]!.body]);
      await untilDecided(requestId, 1);
      const later = await refund(requestId, { amount_usd: '0.2' }, { key: 'refund-once' });
      assert.deepEqual(later.body, answers[0]!.body);
      assert.equal((await refundsOf(management, requestId)).length, 1);
      assert.equal(await balance(token), '49.700000000000');
      const other = await refund(requestId, { amount_usd: '0.3' }, { key: 'refund-once' });
      assert.deepEqual(refusal(other), { status: 422, code: 'idempotency_key_reused', param: 'Idempotency-Key' });
    });

    it('a refund whose run was never started can be approved', async () => {
      const { requestId, token } = await charged('4');
      await requestRefund(management.management, {
        requestId,
        n: 1,
        amount: null,
        reason: 'lost',
        requestedBy: ADA,
      });
      assert.equal((await decide(requestId, 1, 'approve')).body['state'], 'posted');
      assert.equal(await balance(token), '50.000000000000');
    });

    it('a refund whose run was never started can be rejected, also below the threshold', async () => {
      const { requestId, token } = await charged('0.4');
      await requestRefund(management.management, {
        requestId,
        n: 1,
        amount: null,
        reason: 'lost',
        requestedBy: ADA,
      });
      assert.equal((await decide(requestId, 1, 'reject')).body['state'], 'rejected');
      assert.equal(await balance(token), '49.600000000000');
    });

    it('a refund run whose start was carried out but not answered is started once', async () => {
      const { requestId, token } = await charged('0.3');
      const lost = proxy.loseAnswerTo('refundRequest');
      assert.equal((await refund(requestId, {})).status, 202);
      await lost;
      await untilDecided(requestId, 1);
      assert.equal(await balance(token), '50.000000000000');
    });

    it('refunds are posted and decided while Temporal is away, and shown there later', async () => {
      const { requestId, token } = await charged('0.3');
      const large = await charged('3');
      proxy.refuse();
      try {
        const answer = await refund(requestId, {}, { key: 'away' });
        assert.deepEqual([answer.status, ...amountOf(answer.body)], [202, 1, '0.300000000000', 'posted']);
        assert.equal(await balance(token), '50.000000000000');
        assert.equal((await refund(large.requestId, {})).body['state'], 'waiting');
        assert.equal((await decide(large.requestId, 1, 'approve')).body['state'], 'posted');
        assert.equal(await balance(large.token), '50.000000000000');
        const shown = await management.call('GET', `/admin/requests/${formatId('request', requestId)}`);
        assert.equal(shown.status, 200);
        assert.deepEqual(
          (shown.body['workflows'] as { status: string }[]).map(({ status }) => status),
          ['unknown', 'unknown'],
        );
      } finally {
        proxy.accept();
      }
      const told = await eventually('the run of a repeat', async () => {
        await refund(requestId, {}, { key: 'away' });
        const { body } = await management.call('GET', `/admin/requests/${formatId('request', requestId)}`);
        const workflows = body['workflows'] as { type: string; status: string }[];
        return workflows.some(({ type, status }) => type === 'refundRequest' && status === 'completed') || null;
      });
      assert.ok(told);
      assert.equal((await refundsOf(management, requestId)).length, 1);
    });

    it('a decision in Temporal moves no refund, under any signature: $3 stay where they are', async () => {
      const { requestId, token } = await charged('3');
      const asked = await refund(requestId, {});
      const handle = management.deps.temporal.processes.workflow.getHandle(textOf(asked.body, 'workflow_id'));
      for (const decidedBy of ['somebody else', String(asked.body['requested_by']), 'second']) {
        await assert.rejects(
          handle.executeUpdate(decideRefundUpdate, { args: [{ approve: true, decidedBy }] }),
          (error) =>
            error instanceof WorkflowUpdateFailedError &&
            /POST \/admin\/requests\/req_[0-9a-f]{32}\/refunds\/1\/approve/.test(error.cause?.message ?? ''),
        );
      }
      assert.equal(await balance(token), '47.000000000000');
      assert.deepEqual(amountOf((await refundsOf(management, requestId))[0]!), [1, '3.000000000000', 'waiting']);
      assert.equal((await decide(requestId, 1, 'approve')).body['state'], 'posted');
    });

    it('a refund is refused with the field that is not valid', async () => {
      const { requestId } = await charged('0.3');
      const cases: [object, string][] = [
        [{ amount_usd: 0.1 }, 'amount_usd'],
        [{ amount_usd: '0' }, 'amount_usd'],
        [{ amount_usd: '-1' }, 'amount_usd'],
        [{ amount_usd: null }, 'amount_usd'],
        [{ amount_usd: '1,5' }, 'amount_usd'],
        [{ reason: 'no' }, 'reason'],
        [{ reason: 'a\u0000bc' }, 'reason'],
        [{ n: 5 }, 'n'],
      ];
      for (const [body, param] of cases) {
        assert.deepEqual(
          refusal(await refund(requestId, body)),
          { status: 422, code: 'invalid_field', param },
          JSON.stringify(body),
        );
      }
      for (const n of ['0', '-1', '1.5', 'x', '99999999999']) {
        const answer = await management.call(
          'POST',
          `/admin/requests/${formatId('request', requestId)}/refunds/${n}/approve`,
        );
        assert.deepEqual(refusal(answer), { status: 422, code: 'invalid_field', param: 'n' }, n);
      }
    });
  });

  it('refunds are posted even where the namespace does not exist', async () => {
    const { temporalAddress: address } = testServices();
    const management = await startManagement('routes_refund_namespace', {
      temporal: { address, namespaces: someNamespaces() },
    });
    try {
      const requestId = await settledRequest(management, '0.5');
      const answer = await management.call('POST', `/admin/requests/${formatId('request', requestId)}/refund`, {
        body: { reason: 'too early' },
      });
      assert.deepEqual([answer.status, answer.body['state']], [202, 'posted']);
      assert.deepEqual((await refundsOf(management, requestId)).map(amountOf), [[1, '0.500000000000', 'posted']]);
    } finally {
      await management.stop();
    }
  });
});
