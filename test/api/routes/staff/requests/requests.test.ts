/** A request as an operator sees it, and what an operator may do about one that could not be settled. */
import assert from 'node:assert/strict';
import { isForCustomers } from '../../../../../api/http/access.ts';
import { loadCatalogue } from '../../../../../db/requests/catalogue.ts';
import { openCase } from '../../../../../db/accounts/cases.ts';
import { bookPlatformCost } from '../../../../../db/requests/requests.ts';
import { findUnsettled, markSettleError, settleRequests } from '../../../../../db/requests/settlement.ts';
import { formatId, type AccountUuid, type KeyUuid, type RequestUuid } from '../../../../../domain/ids.ts';
import { usd } from '../../../../../domain/money.ts';
import type { UpstreamEvidence } from '../../../../../domain/requests/upstream-evidence.ts';
import { NO_USAGE } from '../../../../../domain/usage/usage.ts';
import { createCustomer, createKey, newRequestId } from '../../../../support/ledger-database.ts';
import {
  finishedRequest,
  heldRequest,
  pick,
  refusal,
  rowsOf,
  settledRequest,
  startManagement,
  textOf,
  type Management,
} from '../../management.ts';

describe('/admin/requests', () => {
  let management: Management;
  before(async () => {
    management = await startManagement('routes_admin_requests');
    await loadCatalogue(management.management, [
      {
        id: 'demo/model',
        dialect: 'openai',
        context_length: 1000,
        default_output_tokens: 100,
        upstreams: [],
        prices: { input: '1', output: '2' },
      },
    ]);
  });
  after(() => management.stop());

  const show = async (requestId: RequestUuid) => {
    const { status, body, text } = await management.call('GET', `/admin/requests/${formatId('request', requestId)}`);
    assert.equal(status, 200, text);
    return body;
  };

  it('a request is shown with its row, postings, price and workflow', async () => {
    const requestId = await settledRequest(management, '0.00014');
    const id = formatId('request', requestId);
    const body = await show(requestId);
    assert.deepEqual(
      pick(
        body,
        'request_id',
        'account_id',
        'state',
        'outcome',
        'cost_usd',
        'lines_total_usd',
        'explained',
        'free',
        'settle_error',
        'raw_usage',
      ),
      [
        id,
        formatId('account', management.accountId),
        'charged',
        'completed',
        '0.000140000000',
        '0.000140000000',
        true,
        false,
        null,
        null,
      ],
    );
    assert.equal((body['usage'] as Record<string, number>)['inputTokens'], 100);
    const [posting, ...others] = body['postings'] as Record<string, unknown>[];
    assert.deepEqual([posting!['kind'], posting!['amount_usd'], others.length], ['charge', '0.000140000000', 0]);
    const single = await management.call('GET', `/admin/postings/${textOf(posting!, 'id')}`);
    assert.deepEqual(pick(single.body, 'kind', 'business_id', 'amount_usd'), ['charge', id, '0.000140000000']);
    assert.deepEqual((body['workflows'] as object[])[0], {
      type: 'meterRequests',
      workflow_id: `meter/${id}`,
      namespace: 'holdfast-requests',
      status: 'unknown',
      url: `http://ui.test/namespaces/holdfast-requests/workflows/${encodeURIComponent(`meter/${id}`)}`,
    });
  });

  it('a request shows its platform cost, the reason, and an orphan’s workflow', async () => {
    const end = {
      outcome: 'upstream_error' as const,
      rawUsage: { prompt_tokens: 'NaN' },
      usage: { ...NO_USAGE, inputTokens: 7 },
    };
    const requestId = await settledRequest(management, '0.000007', { end });
    await bookPlatformCost(management.worker, {
      requestId,
      reason: 'orphan',
      usage: NO_USAGE,
      listCost: usd('0.5'),
      estimated: false,
    });
    const held = await heldRequest(management);
    await management.admin.query('update request set resolver_started_at = now() where id = $1', [held]);
    const body = await show(requestId);
    assert.deepEqual(body['raw_usage'], { prompt_tokens: 'NaN' });
    assert.deepEqual(
      (body['platform_costs'] as Record<string, unknown>[]).map((row) => pick(row, 'reason', 'list_cost_usd')),
      [
        ['upstream_error', '0.000007000000'],
        ['orphan', '0.500000000000'],
      ],
    );
    assert.deepEqual(
      ((await show(held))['workflows'] as Record<string, unknown>[]).map((row) => pick(row, 'type', 'workflow_id')),
      [['resolveOrphan', `orphan/${formatId('request', held)}`]],
    );
  });

  it('an unknown request is 404', async () => {
    for (const [method, path] of [
      ['GET', ''],
      ['POST', '/retry-settlement'],
    ] as const) {
      const answer = await management.call(method, `/admin/requests/${formatId('request', newRequestId())}${path}`);
      assert.equal(refusal(answer).code, 'not_found');
    }
  });

  it('only a quarantined request can be returned to settlement, by a person', async () => {
    const requestId = await finishedRequest(management, '0.00014');
    const path = `/admin/requests/${formatId('request', requestId)}/retry-settlement`;
    assert.equal(refusal(await management.call('POST', path)).status, 409);
    await markSettleError(management.worker, requestId, 'numeric field overflow');
    assert.equal(await settleRequests(management.worker, [requestId], 'meter/x'), 0);
    assert.equal((await show(requestId))['settle_error'], 'numeric field overflow');
    const answer = await management.call('POST', path, { token: management.tokens.finance });
    assert.deepEqual([answer.status, answer.body['state']], [200, 'finished']);
    assert.ok((await findUnsettled(management.worker, 0, 100)).includes(requestId), 'the sweep finds it again');
    assert.equal(await settleRequests(management.worker, [requestId], 'meter/x'), 1);
    assert.equal(refusal(await management.call('POST', path)).status, 409);
    const { body } = await management.call('GET', `/admin/actions?action=request.retry_settlement`);
    assert.deepEqual(rowsOf(body)[0]!['details'], { settle_error: 'numeric field overflow' });
  });
});

describe('/admin/requests, the list', () => {
  let management: Management;
  let other: { accountId: AccountUuid; keyId: KeyUuid };
  const REFUSED: UpstreamEvidence = {
    name: '1:api.example.com',
    kind: 'credentials',
    status: 401,
    code: 'invalid_api_key',
    message: 'Incorrect API key provided: …',
  };
  const OVERLOADED: UpstreamEvidence = {
    name: '2:b.example.com',
    kind: 'failed',
    status: 503,
    code: null,
    message: null,
  };
  const ids: Record<string, string> = {};

  before(async () => {
    management = await startManagement('routes_admin_requests_list');
    const accountId = await createCustomer(management, '10');
    other = { accountId, keyId: await createKey(management, accountId) };
    const failed = { outcome: 'upstream_error' as const };
    const made = {
      fine: await finishedRequest(management, '0.1'),
      refused: await finishedRequest(management, '0', { end: { ...failed, upstream: REFUSED } }),
      overloaded: await finishedRequest(management, '0', {
        hold: { ...other, modelId: 'demo/other' },
        end: { ...failed, upstream: OVERLOADED },
      }),
      held: await heldRequest(management, other),
    };
    for (const [name, id] of Object.entries(made)) ids[name] = formatId('request', id);
  });
  after(() => management.stop());

  const list = async (query: string) => {
    const { status, body, text } = await management.call('GET', `/admin/requests${query}`);
    assert.equal(status, 200, text);
    const nameOf = (id: unknown) => Object.keys(ids).find((name) => ids[name] === id);
    return { names: rowsOf(body).map((row) => nameOf(row['request_id'])), rows: rowsOf(body), body };
  };

  it('the list has the requests of all accounts, newest first, each with the failures at its provider', async () => {
    const { names, rows, body } = await list('');
    assert.deepEqual(names, ['held', 'overloaded', 'refused', 'fine']);
    assert.deepEqual(
      rows.map((row) => row['upstream']),
      [null, OVERLOADED, REFUSED, null],
    );
    assert.equal(rows[1]!['account_id'], formatId('account', other.accountId));
    assert.equal(body['next_cursor'], null);
    const whole = await management.call('GET', `/admin/requests/${ids['refused']}`);
    assert.deepEqual(whole.body['upstream'], REFUSED);
  });

  it('the list is filtered by model, outcome, provider status and kind, account and time, alone and together', async () => {
    const soon = encodeURIComponent(new Date(Date.now() + 60_000).toISOString());
    const before = encodeURIComponent(new Date(Date.now() - 60_000).toISOString());
    for (const [query, expected] of [
      ['?upstream_status=401', ['refused']],
      ['?upstream_status=500', []],
      ['?upstream_kind=failed', ['overloaded']],
      ['?outcome=upstream_error', ['overloaded', 'refused']],
      ['?outcome=upstream_error&model=demo/other', ['overloaded']],
      [`?account_id=${formatId('account', other.accountId)}`, ['held', 'overloaded']],
      [`?from=${before}&to=${soon}&upstream_status=503`, ['overloaded']],
      [`?from=${soon}`, []],
      [`?to=${before}`, []],
    ] as const) {
      assert.deepEqual((await list(query)).names, expected, query);
    }
  });

  it('the list has pages without gaps or repeats', async () => {
    const names = [];
    let query = '?limit=1';
    for (let pages = 0; pages < 5; pages++) {
      const page = await list(query);
      names.push(...page.names);
      if (page.body['next_cursor'] === null) break;
      query = `?limit=1&cursor=${textOf(page.body, 'next_cursor')}`;
    }
    assert.deepEqual(names, ['held', 'overloaded', 'refused', 'fine']);
  });

  it('the list names the parameter that is wrong, and is not for customers', async () => {
    for (const [query, param] of [
      ['?upstream_status=99', 'upstream_status'],
      ['?upstream_status=abc', 'upstream_status'],
      ['?upstream_kind=odd', 'upstream_kind'],
      ['?outcome=odd', 'outcome'],
      ['?from=2027-01-02T00:00:00Z&to=2027-01-01T00:00:00Z', 'to'],
      ['?other=1', 'other'],
    ] as const) {
      const { status, param: named } = refusal(await management.call('GET', `/admin/requests${query}`));
      assert.deepEqual([status, named], [422, param], query);
    }
    const { status } = refusal(await management.call('GET', '/admin/requests', { token: management.tokens.account }));
    assert.equal(status, 403);
  });

  it("the customer's log, receipt and export say nothing of providers", async () => {
    for (const path of ['/api/logs', `/api/logs/${ids['refused']}`, '/api/logs.csv']) {
      const { status, text } = await management.call('GET', path);
      assert.equal(status, 200);
      assert.doesNotMatch(text, /example\.com|credentials|Incorrect API key|upstream_status/, path);
    }
  });
});

describe('/admin/cases', () => {
  let management: Management;
  before(async () => {
    management = await startManagement('routes_cases');
    for (const subject of ['req_1', 'req_2']) {
      await openCase(management.worker, { kind: 'settle_error', subject, evidence: { error: 'overflow' } });
    }
  });
  after(() => management.stop());

  const list = async (query: string) => rowsOf((await management.call('GET', `/admin/cases${query}`)).body);

  it('a case is closed once, with its resolution, and listed by state', async () => {
    const [newest] = await list('?state=open');
    assert.deepEqual(pick(newest!, 'kind', 'subject', 'evidence', 'state'), [
      'settle_error',
      'req_2',
      { error: 'overflow' },
      'open',
    ]);
    const path = `/admin/cases/${textOf(newest!, 'id')}/close`;
    const closed = await management.call('POST', path, { body: { resolution: 'amount corrected' } });
    assert.deepEqual(pick(closed.body, 'state', 'resolution'), ['closed', 'amount corrected']);
    assert.match(String(closed.body['closed_by']), /^the operator /);
    assert.equal(refusal(await management.call('POST', path, { body: { resolution: 'again' } })).status, 409);
    assert.deepEqual(
      (await list('?state=closed')).map((row) => row['subject']),
      ['req_2'],
    );
    assert.deepEqual(
      (await list('?state=open')).map((row) => row['subject']),
      ['req_1'],
    );
    assert.deepEqual(
      (await list('')).map((row) => row['subject']),
      ['req_2', 'req_1'],
    );
    await openCase(management.worker, { kind: 'settle_error', subject: 'req_2', evidence: {} });
    assert.equal((await list('?state=open')).length, 2, 'a closed case does not hide a new one');
  });

  it('a case about money is closed by an operator or finance, not by support', async () => {
    const kinds = [
      'top_up_mismatch',
      'top_up_reversal',
      'violation',
      'early_fraud_warning',
      'reconcile/payment_missed',
    ];
    const close = (id: string, token: string) =>
      management.call('POST', `/admin/cases/${id}/close`, { token, body: { resolution: 'looked at' } });
    for (const [n, kind] of [...kinds, 'finality_violated', 'a kind of tomorrow'].entries()) {
      await openCase(management.worker, { kind, subject: 'pi_1', evidence: {} });
      const [newest] = await list('?limit=1');
      const id = textOf(newest!, 'id');
      const denied = await close(id, management.tokens.support);
      assert.deepEqual(refusal(denied), { status: 403, code: 'forbidden', param: null }, kind);
      assert.ok(
        denied.text.includes(`A case of kind ${kind} is about money: only an operator or finance can close it.`),
      );
      assert.equal((await list('?limit=1'))[0]!['state'], 'open');
      const token = n % 2 === 0 ? management.tokens.finance : management.tokens.operator;
      assert.equal((await close(id, token)).body['state'], 'closed');
    }
    await openCase(management.worker, { kind: 'settle_error', subject: 'req_3', evidence: {} });
    const [newest] = await list('?limit=1');
    assert.equal((await close(textOf(newest!, 'id'), management.tokens.support)).body['state'], 'closed');
  });

  it('closing a case names the field that is not valid', async () => {
    const [row] = await list('?limit=1');
    const path = `/admin/cases/${textOf(row!, 'id')}/close`;
    for (const body of [{}, { resolution: '' }, { resolution: 'x'.repeat(2001) }, { resolution: [] }]) {
      assert.equal(refusal(await management.call('POST', path, { body })).param, 'resolution');
    }
    assert.equal(refusal(await management.call('GET', '/admin/cases?state=all')).param, 'state');
    const unknown = await management.call('POST', '/admin/cases/case_01980000000070008000000000000000/close', {
      body: { resolution: 'none' },
    });
    assert.equal(refusal(unknown).code, 'not_found');
  });
});

describe('/admin audit', () => {
  let management: Management;
  before(async () => {
    management = await startManagement('routes_audit');
  });
  after(() => management.stop());

  it('the audit finds no violation in a healthy ledger, and names one where there is one', async () => {
    await settledRequest(management, '0.1');
    const healthy = await management.call('GET', '/admin/violations');
    assert.deepEqual(healthy.body, { healthy: true, data: [], next_cursor: null });
    await management.admin.query('update account set balance = balance + 1 where id = $1', [management.accountId]);
    const { body } = await management.call('GET', '/admin/violations', { token: management.tokens.auditor });
    assert.deepEqual(body['healthy'], false);
    assert.deepEqual(pick(rowsOf(body)[0]!, 'rule', 'subject'), ['balance_equals_entries', management.accountId]);
    await management.admin.query('update account set balance = balance - 1 where id = $1', [management.accountId]);
  });

  it('platform cost is summed by reason over a period, free models apart', async () => {
    for (const [index, reason] of ['late_finish', 'orphan', 'orphan', 'free'].entries()) {
      const requestId = newRequestId();
      await bookPlatformCost(management.worker, {
        requestId,
        reason,
        usage: NO_USAGE,
        listCost: usd(`0.${index + 1}`),
        estimated: false,
      });
    }
    const { body } = await management.call('GET', '/admin/platform-costs');
    assert.deepEqual(body['data'], [
      { reason: 'free', requests: 1, list_cost_usd: '0.400000000000' },
      { reason: 'late_finish', requests: 1, list_cost_usd: '0.100000000000' },
      { reason: 'orphan', requests: 2, list_cost_usd: '0.500000000000' },
    ]);
    assert.deepEqual(pick(body, 'total_usd', 'free_usd'), ['1.000000000000', '0.400000000000']);
    const past = await management.call('GET', '/admin/platform-costs?to=2026-01-01T00:00:00Z');
    assert.deepEqual(pick(past.body, 'from', 'data', 'total_usd'), ['2025-12-02T00:00:00.000Z', [], '0.000000000000']);
    for (const [query, param] of [
      ['?from=2099-01-01T00:00:00Z', 'from'],
      ['?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z', 'to'],
      ['?from=x', 'from'],
      ['?reason=orphan', 'reason'],
    ] as const) {
      assert.deepEqual(refusal(await management.call('GET', `/admin/platform-costs${query}`)), {
        status: 422,
        code: 'invalid_field',
        param,
      });
    }
  });

  it('an unknown posting is 404', async () => {
    assert.equal(
      refusal(await management.call('GET', '/admin/postings/pst_01980000000070008000000000000000')).code,
      'not_found',
    );
  });

  it('actions are listed by actor, kind and subject, in pages', async () => {
    const account = formatId('account', await createCustomer(management, '0'));
    for (let round = 0; round < 2; round++) {
      await management.call('POST', `/admin/accounts/${account}/freeze`, {
        token: management.tokens.support,
        body: { reason: 'round' },
      });
      await management.call('POST', `/admin/accounts/${account}/unfreeze`);
    }
    const actions = async (query: string) =>
      rowsOf((await management.call('GET', `/admin/actions${query}`)).body).map((row) => row['action']);
    assert.deepEqual(await actions(`?subject=${account}&action=account.freeze`), ['account.freeze', 'account.freeze']);
    const first = await management.call('GET', `/admin/actions?subject=${account}&limit=3`);
    const actor = String(rowsOf(first.body)[1]!['actor']);
    assert.match(actor, /^the support /);
    assert.deepEqual(await actions(`?actor=${encodeURIComponent(actor)}`), ['account.freeze', 'account.freeze']);
    assert.deepEqual(await actions(`?subject=${account}&limit=3&cursor=${textOf(first.body, 'next_cursor')}`), [
      'account.freeze',
    ]);
    assert.deepEqual(await actions('?action=account.vanish'), []);
  });
});

describe('/admin/tokens', () => {
  let management: Management;
  before(async () => {
    management = await startManagement('routes_tokens');
  });
  after(() => management.stop());

  const make = (body: object, token = management.tokens.operator) =>
    management.call('POST', '/admin/tokens', { token, body });

  it('tokens of every role are created, work, are listed without their secret, and are revoked permanently', async () => {
    const account = formatId('account', management.accountId);
    for (const role of ['account', 'operator', 'support', 'finance', 'auditor']) {
      const made = await make({ role, name: `new ${role}`, ...(role === 'account' ? { account_id: account } : {}) });
      assert.equal(made.status, 201, made.text);
      const secret = textOf(made.body, 'secret');
      const path = role === 'account' ? '/api/account' : '/admin/cases';
      assert.equal((await management.call('GET', path, { token: secret })).status, 200);
      const listed = await management.call('GET', '/admin/tokens?limit=1', { token: management.tokens.auditor });
      assert.deepEqual(pick(rowsOf(listed.body)[0]!, 'id', 'role', 'revoked_at'), [made.body['id'], role, null]);
      assert.ok(!listed.text.includes(secret));
      const revoked = await management.call('DELETE', `/admin/tokens/${textOf(made.body, 'id')}`);
      assert.ok(revoked.body['revoked_at'] !== null);
      assert.deepEqual(
        (await management.call('DELETE', `/admin/tokens/${textOf(made.body, 'id')}`)).body,
        revoked.body,
      );
      assert.equal((await management.call('GET', path, { token: secret })).status, 401);
    }
  });

  it('a token ends when it expires', async () => {
    const made = await make({ role: 'auditor', name: 'short', expires_at: '2099-01-01T00:00:00Z' });
    assert.equal(made.body['expires_at'], '2099-01-01T00:00:00.000Z');
    const token = textOf(made.body, 'secret');
    assert.equal((await management.call('GET', '/admin/cases', { token })).status, 200);
    await management.admin.query(`update access_token set expires_at = now() where name = 'short'`);
    assert.equal((await management.call('GET', '/admin/cases', { token })).status, 401);
  });

  it('a token counts as its maker’s person, and list and record name the maker', async () => {
    const made = await make({ role: 'finance', name: 'zoe' });
    const [maker] = rowsOf((await management.call('GET', '/admin/tokens')).body).filter(
      ({ name }) => name === 'the operator',
    );
    assert.deepEqual(pick(maker!, 'person', 'created_by'), ['the operator', null]);
    assert.deepEqual(pick(made.body, 'person', 'created_by'), ['the operator', maker!['id']]);
    const operator = textOf((await make({ role: 'operator', name: 'yann' })).body, 'secret');
    const again = await make({ role: 'operator', name: 'xena' }, operator);
    assert.deepEqual(pick(again.body, 'name', 'person'), ['xena', 'the operator']);
    const { body } = await management.call('GET', `/admin/actions?subject=${textOf(again.body, 'id')}`);
    const [record] = rowsOf(body);
    assert.match(String(record!['actor']), /^yann \(tok_/);
    assert.deepEqual(pick(record!, 'action', 'details'), [
      'token.create',
      { role: 'operator', name: 'xena', account_id: null, person: 'the operator', expires_at: null },
    ]);
    const customer = formatId('account', management.accountId);
    const account = await make({ role: 'account', name: 'theirs', account_id: customer });
    assert.deepEqual(pick(account.body, 'person', 'created_by'), [null, maker!['id']]);
    for (const claim of [{ person: 'bob' }, { created_by: null }]) {
      assert.equal(refusal(await make({ role: 'finance', name: 'x', ...claim })).status, 422);
    }
  });

  it('a token has no more rights than its maker: only operators create tokens, and no role may do what operators may not', async () => {
    for (const role of ['account', 'support', 'finance', 'auditor'] as const) {
      const answer = await make({ role: 'support', name: 'x' }, management.tokens[role]);
      assert.deepEqual(refusal(answer), { status: 403, code: 'forbidden', param: null }, role);
    }
    for (const { path, access } of management.routes) {
      assert.ok(isForCustomers(access) || access.includes('operator'), path);
    }
  });

  it('a token lives no longer than its maker', async () => {
    const made = await make({ role: 'operator', name: 'guest', expires_at: '2098-01-01T00:00:00Z' });
    const guest = textOf(made.body, 'secret');
    for (const end of [{}, { expires_at: null }, { expires_at: '2098-01-01T00:00:00.001Z' }]) {
      const answer = await make({ role: 'support', name: 'x', ...end }, guest);
      assert.deepEqual(refusal(answer), { status: 422, code: 'invalid_field', param: 'expires_at' });
    }
    assert.equal((await make({ role: 'support', name: 'x', expires_at: '2098-01-01T00:00:00Z' }, guest)).status, 201);
  });

  it('POST /admin/tokens names the field that is not valid', async () => {
    const account = formatId('account', management.accountId);
    const cases: [object, string][] = [
      [{ name: 'x' }, 'role'],
      [{ role: 'root', name: 'x' }, 'role'],
      [{ role: 'operator' }, 'name'],
      [{ role: 'operator', name: 'x'.repeat(101) }, 'name'],
      [{ role: 'account', name: 'x' }, 'account_id'],
      [{ role: 'account', name: 'x', account_id: null }, 'account_id'],
      [{ role: 'account', name: 'x', account_id: 'acct_1' }, 'account_id'],
      [{ role: 'account', name: 'x', account_id: 'acct_01980000000070008000000000000000' }, 'account_id'],
      [{ role: 'operator', name: 'x', account_id: account }, 'account_id'],
      [{ role: 'operator', name: 'x', expires_at: '2020-01-01T00:00:00Z' }, 'expires_at'],
      [{ role: 'operator', name: 'x', secret: 'hft-mine' }, 'secret'],
    ];
    for (const [body, param] of cases) {
      assert.deepEqual(refusal(await make(body)), { status: 422, code: 'invalid_field', param }, JSON.stringify(body));
    }
    assert.equal(
      refusal(await management.call('DELETE', '/admin/tokens/tok_01980000000070008000000000000000')).code,
      'not_found',
    );
  });
});
