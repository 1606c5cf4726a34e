/**
 * Affiliates over HTTP: the code and its link, what a click leaves behind, who may change what, and what a mistake is
 * told.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createManagementApp } from '../../../../../api/routes/app.ts';
import { referralOfVisitor, signReferral } from '../../../../../api/routes/account/commissions/referral-link.ts';
import { createAccount } from '../../../../../db/accounts/accounts.ts';
import { createAccessToken } from '../../../../../db/accounts/access-tokens.ts';
import { ensureAffiliate, type Affiliate } from '../../../../../db/commissions/affiliates.ts';
import { formatId } from '../../../../../domain/ids.ts';
import { createAffiliate, createReferred, payTopUp } from '../../../../support/commissions.ts';
import { brokenRules } from '../../../../support/ledger-database.ts';
import { pick, readPages, refusal, rowsOf, startManagement, textOf, type Management } from '../../management.ts';

const KEY = 'a key for tests, 32 characters or more';
const DAY_MS = 86_400_000;

describe('affiliate routes', () => {
  let management: Management;
  let affiliate: Affiliate;
  let path: string;
  before(async () => {
    management = await startManagement('routes_affiliate');
  });
  after(() => management.stop());
  beforeEach(async () => {
    affiliate = await createAffiliate(management);
    path = `/admin/affiliates/${formatId('account', affiliate.accountId)}`;
  });
  afterEach('no rule is broken', async () => {
    assert.deepEqual(await brokenRules(management.admin), []);
  });

  it('GET /api/affiliate makes the code at the first call and shows what it has earned, page by page', async () => {
    const first = await management.call('GET', '/api/affiliate');
    assert.equal(first.status, 200);
    const code = textOf(first.body, 'code');
    assert.deepEqual(pick(first.body, 'link', 'rate_ppm', 'referrals', 'blocked'), [
      `http://holdfast.test/r/${code}`,
      100_000,
      0,
      false,
    ]);
    const own = await ensureAffiliate(management.management, management.accountId);
    assert.equal(own.code, code);
    const referred = await createReferred(management, own);
    for (const amount of ['10', '20', '30']) await payTopUp(management, referred, amount);
    const { body } = await management.call('GET', '/api/affiliate?limit=2');
    assert.deepEqual(pick(body, 'referrals', 'pending_usd', 'matured_usd', 'credited_usd'), [
      1,
      '6.000000000000',
      '0.000000000000',
      '0.000000000000',
    ]);
    const entries = body['entries'] as Record<string, unknown>;
    assert.deepEqual(
      rowsOf(entries).map((entry) => pick(entry, 'kind', 'amount_usd', 'base_usd', 'state', 'reason')),
      [
        ['earned', '3.000000000000', '30.000000000000', 'pending', null],
        ['earned', '2.000000000000', '20.000000000000', 'pending', null],
      ],
    );
    const rest = await management.call('GET', `/api/affiliate?limit=2&cursor=${textOf(entries, 'next_cursor')}`);
    assert.equal(rowsOf(rest.body['entries'] as Record<string, unknown>).length, 1);
  });

  describe('GET /r/{code}', () => {
    const click = (code: string): Promise<Response> => fetch(`${management.url}/r/${code}`, { redirect: 'manual' });
    const cookieOf = (response: Response): string | null => response.headers.get('set-cookie');

    it('GET /r/{code} sets a signed cookie for 30 days and leads to our own page', async () => {
      const response = await click(affiliate.code);
      assert.deepEqual([response.status, response.headers.get('location')], [302, 'http://holdfast.test/']);
      const cookie = cookieOf(response) ?? '';
      assert.match(
        cookie,
        /^holdfast_referral=[^;]+; Max-Age=2592000; Path=\/; Expires=[^;]+; HttpOnly; SameSite=Lax$/,
      );
      const referral = referralOfVisitor(KEY, `other=1; ${cookie.split(';')[0]!}`, new Date());
      assert.equal(referral?.code, affiliate.code);
      const account = { name: 'Newcomer', email: null, referral };
      const { id } = await createAccount(management.management, account);
      const { rows } = await management.admin.query('select affiliate_id from referral where account_id = $1', [id]);
      assert.deepEqual(rows, [{ affiliate_id: affiliate.accountId }]);
    });

    it('GET /r/{code} leads to an existing page, which explains the invitation', async () => {
      const response = await click(affiliate.code);
      // The product's public address is this server's in production.
      const landing = new URL(response.headers.get('location') ?? '').pathname;
      const visit = (cookie: string): Promise<Response> =>
        fetch(`${management.url}${landing}`, { headers: cookie === '' ? {} : { cookie } });
      const invited = await visit((cookieOf(response) ?? '').split(';')[0]!);
      assert.equal(invited.status, 200);
      assert.match(invited.headers.get('content-type') ?? '', /^text\/html/);
      const text = await invited.text();
      assert.match(text, /You followed an invitation\. This browser remembers it for 30 days/);
      assert.match(text, /<code>http:\/\/holdfast\.test\/v1<\/code>/);
      for (const cookie of ['', 'holdfast_referral=forged000.1.x']) {
        const stranger = await visit(cookie);
        assert.equal(stranger.status, 200);
        assert.doesNotMatch(await stranger.text(), /invitation/, cookie);
      }
    });

    it('GET /r/{code} leads to the configured address, where there is one', async () => {
      const settings = {
        ...management.deps.settings,
        referralLandingUrl: 'https://www.example.test/welcome?from=link',
      };
      const server = createServer(createManagementApp({ ...management.deps, settings })).listen(0, '127.0.0.1');
      try {
        await once(server, 'listening');
        const { port } = server.address() as AddressInfo;
        const response = await fetch(`http://127.0.0.1:${port}/r/${affiliate.code}`, { redirect: 'manual' });
        assert.equal(response.headers.get('location'), 'https://www.example.test/welcome?from=link');
        assert.match(cookieOf(response) ?? '', /^holdfast_referral=/);
      } finally {
        server.close();
        server.closeAllConnections();
      }
    });

    it('GET /r/{code} with an unknown or blocked code sets no cookie and leads to the same page', async () => {
      await management.call('POST', `${path}/block`, { body: { reason: 'spam' } });
      for (const code of ['nobody0000', affiliate.code, 'A', '%2f%2fevil.test', 'x'.repeat(500), '..', '%00']) {
        const response = await click(code);
        const location = response.headers.get('location');
        assert.ok(location === null || location === 'http://holdfast.test/', code);
        assert.equal(cookieOf(response), null, code);
      }
    });
  });

  describe('the cookie', () => {
    const at = new Date('2026-11-24T12:00:00Z');
    const clicked = new Date('2026-11-24T11:59:59Z');
    const read = (value: string, now = at) => referralOfVisitor(KEY, `holdfast_referral=${value}`, now);

    it('the cookie counts for 30 days and not a second longer', () => {
      const value = signReferral(KEY, 'code000000', clicked);
      assert.deepEqual(read(value), { code: 'code000000', clickedAt: clicked });
      const end = clicked.getTime() + 30 * DAY_MS;
      assert.notEqual(read(value, new Date(end)), null);
      assert.equal(read(value, new Date(end + 1000)), null);
    });

    it('a cookie that is foreign, altered, of another key or from the future is no referral', () => {
      const value = signReferral(KEY, 'code000000', clicked);
      const [code, seconds, signature] = value.split('.') as [string, string, string];
      for (const wrong of [
        '',
        'x',
        `${code}.${seconds}`,
        `other00000.${seconds}.${signature}`,
        `${code}.${Number(seconds) + 1}.${signature}`,
        `${code}.${seconds}.${signature.slice(1)}x`,
        `${value}x`,
        signReferral(`another ${KEY}`, 'code000000', clicked),
        signReferral(KEY, 'code000000', new Date(at.getTime() + 120_000)),
      ]) {
        assert.equal(read(wrong), null, wrong);
      }
      assert.equal(referralOfVisitor(null, `holdfast_referral=${value}`, at), null);
      assert.equal(referralOfVisitor(KEY, undefined, at), null);
    });
  });

  it('POST /admin/accounts takes the code of an affiliate and names one that is none', async () => {
    const made = await management.call('POST', '/admin/accounts', { body: { name: 'x', referred_by: affiliate.code } });
    assert.equal(made.status, 201);
    const { body } = await management.call('GET', path);
    assert.equal(body['referrals'], 1);
    for (const referred_by of ['nobody0000', 'x', '\u00e9']) {
      const answer = await management.call('POST', '/admin/accounts', { body: { name: 'x', referred_by } });
      assert.deepEqual(refusal(answer), { status: 422, code: 'invalid_field', param: 'referred_by' }, referred_by);
    }
  });

  it('a rate of its own is set with a reason and seen by the affiliate', async () => {
    const token = (
      await createAccessToken(management.management, {
        role: 'account',
        accountId: affiliate.accountId,
        name: 'affiliate',
      })
    ).secret;
    const set = await management.call('PATCH', path, { body: { rate_ppm: 25_000, reason: 'a partner' } });
    assert.equal(set.body['rate_ppm'], 25_000);
    assert.equal((await management.call('GET', '/api/affiliate', { token })).body['rate_ppm'], 25_000);
    for (const [rate_ppm, param] of [
      [-1, 'rate_ppm'],
      [1_000_001, 'rate_ppm'],
      [0.5, 'rate_ppm'],
      ['10', 'rate_ppm'],
    ] as const) {
      const answer = await management.call('PATCH', path, { body: { rate_ppm, reason: 'a slip' } });
      assert.deepEqual(refusal(answer), { status: 422, code: 'invalid_field', param }, String(rate_ppm));
    }
    assert.equal(refusal(await management.call('PATCH', path, { body: { rate_ppm: 1 } })).param, 'reason');
    await management.call('PATCH', path, { body: { rate_ppm: null, reason: 'no partner' } });
    assert.equal((await management.call('GET', '/api/affiliate', { token })).body['rate_ppm'], 100_000);
  });

  it('a blocked affiliate reads why, has no link, and is blocked once', async () => {
    const token = (
      await createAccessToken(management.management, { role: 'account', accountId: affiliate.accountId, name: 'me' })
    ).secret;
    const body = { reason: 'fake accounts' };
    assert.equal((await management.call('POST', `${path}/block`, { body })).status, 200);
    assert.equal(refusal(await management.call('POST', `${path}/block`, { body })).status, 409);
    const seen = await management.call('GET', '/api/affiliate', { token });
    assert.deepEqual(pick(seen.body, 'blocked', 'blocked_reason', 'link'), [true, 'fake accounts', null]);
    assert.equal((await management.call('POST', `${path}/unblock`, { body })).status, 200);
    assert.equal(refusal(await management.call('POST', `${path}/unblock`, { body })).status, 409);
  });

  it('a correction above the threshold waits for a second person; with a key it is asked for once', async () => {
    const body = { amount_usd: '100.000000000001', reason: 'was missed' };
    const headers = { 'idempotency-key': `correction-${affiliate.code}` };
    const asked = await management.call('POST', `${path}/corrections`, { body, headers });
    const again = await management.call('POST', `${path}/corrections`, { body, headers });
    assert.deepEqual([asked.status, again.status, again.body], [202, 202, asked.body]);
    const id = textOf(asked.body, 'id');
    const { body: approvals } = await management.call('GET', '/admin/approvals');
    const [waiting] = rowsOf(approvals).filter((row) => row['id'] === id);
    assert.deepEqual(pick(waiting!, 'kind', 'account_id', 'amount_usd'), [
      'commission_correction',
      formatId('account', affiliate.accountId),
      '100.000000000001',
    ]);
    const approve = `/admin/commission-corrections/${id}/approve`;
    assert.deepEqual(refusal(await management.call('POST', approve)), {
      status: 403,
      code: 'forbidden',
      param: null,
    });
    const approved = await management.call('POST', approve, { token: management.tokens.finance });
    assert.deepEqual(pick(approved.body, 'state', 'amount_usd'), ['accrued', '100.000000000001']);
    const reject = await management.call('POST', `/admin/commission-corrections/${id}/reject`);
    assert.equal(refusal(reject).status, 409);
    const { body: entries } = await management.call('GET', `${path}/commissions`);
    assert.deepEqual(
      rowsOf(entries).map((entry) => pick(entry, 'kind', 'amount_usd', 'state')),
      [['correction', '100.000000000001', 'matured']],
    );
  });

  it('a correction of nothing, of too much, without a reason or of nobody is refused by name', async () => {
    for (const [body, param] of [
      [{ amount_usd: '0', reason: 'nothing' }, 'amount_usd'],
      [{ amount_usd: '1000000.000000000001', reason: 'much' }, 'amount_usd'],
      [{ amount_usd: '1e3', reason: 'form' }, 'amount_usd'],
      [{ amount_usd: '1' }, 'reason'],
    ] as const) {
      const answer = await management.call('POST', `${path}/corrections`, { body });
      assert.deepEqual(refusal(answer), { status: 422, code: 'invalid_field', param });
    }
    const nobody = '/admin/affiliates/acct_01980000000070008000000000000000/corrections';
    const answer = await management.call('POST', nobody, { body: { amount_usd: '1', reason: 'nobody' } });
    assert.equal(refusal(answer).code, 'not_found');
  });

  it('a review names what speaks for one person, and is decided once with a reason', async () => {
    const referred = await createReferred(management, affiliate);
    for (const accountId of [referred, affiliate.accountId]) {
      await management.worker.query('select note_account_mark($1, $2, $3)', [
        accountId,
        'card_fingerprint',
        affiliate.code,
      ]);
    }
    await payTopUp(management, referred, '10');
    const { body } = await management.call('GET', '/admin/commission-reviews?state=waiting');
    const [review] = rowsOf(body);
    assert.deepEqual(pick(review!, 'signals', 'amount_usd', 'state'), [
      ['a card with the same fingerprint'],
      '1.000000000000',
      'waiting',
    ]);
    const decide = `/admin/commission-reviews/${textOf(review!, 'id')}`;
    assert.equal(refusal(await management.call('POST', `${decide}/deny`, { body: {} })).param, 'reason');
    const denied = await management.call('POST', `${decide}/deny`, { body: { reason: 'the same person' } });
    assert.deepEqual(pick(denied.body, 'state', 'decision_reason'), ['denied', 'the same person']);
    assert.equal((await management.call('POST', `${decide}/deny`, { body: { reason: 'again' } })).status, 200);
    const approve = await management.call('POST', `${decide}/approve`, { body: { reason: 'no' } });
    assert.equal(refusal(approve).status, 422);
    assert.equal(
      refusal(await management.call('POST', `${decide}/approve`, { body: { reason: 'not after all' } })).status,
      409,
    );
    const { body: entries } = await management.call('GET', `${path}/commissions`);
    assert.deepEqual(
      rowsOf(entries).map((entry) => pick(entry, 'state', 'reason')),
      [['denied', 'A person has decided that this top-up earns no commission.']],
    );
  });

  it('affiliates and rules are listed; a rule out of bounds is refused by name', async () => {
    await createAffiliate(management);
    const listed = await readPages(management, '/admin/affiliates', { limit: 1 });
    assert.ok(listed.some((row) => row['code'] === affiliate.code));
    const rule = { rate_ppm: 100_000, hold_days: 60, final_hold_days: 0, dispute_days: 120, reason: 'as before' };
    const published = await management.call('POST', '/admin/commission-rules', { body: rule });
    assert.deepEqual([published.status, published.body['version']], [201, 2]);
    assert.deepEqual(
      rowsOf((await management.call('GET', '/admin/commission-rules')).body).map(({ version }) => version),
      [2, 1],
    );
    for (const field of ['rate_ppm', 'hold_days', 'final_hold_days', 'dispute_days']) {
      const answer = await management.call('POST', '/admin/commission-rules', { body: { ...rule, [field]: -1 } });
      assert.deepEqual(refusal(answer), { status: 422, code: 'invalid_field', param: field });
    }
  });

  it('a run is not begun while the workflow service is away, and nothing is recorded', async () => {
    const answer = await management.call('POST', '/admin/commission-runs', { body: { period: '2020-01' } });
    assert.equal(refusal(answer).code, 'temporal_unavailable');
    assert.equal(refusal(await management.call('GET', '/admin/commission-runs/2020-01')).status, 404);
  });
});
