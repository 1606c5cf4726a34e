/**
 * Webhooks that are refused: every sender and every fault leaves its reason in the answer, the metric, the log and the
 * database, never anything of a body or a secret, and a flood of them leaves no more than its count.
 */
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { createServer, request as httpRequest, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gzipSync } from 'node:zlib';
import Stripe from 'stripe';
import { createManagementApp } from '../../../../api/routes/app.ts';
import { webhookCounts } from '../../../../db/payments/webhook-counts.ts';
import { WEBHOOK_REFUSAL_CURES } from '../../../../providers/webhook-refusals.ts';
import { signatureHeaders } from '../../../../twins/creem/signature.ts';
import { eventHeaders, signingKeyOf } from '../../../../twins/discord/keys.ts';
import { rewardSettingsOf } from '../../../support/reward-settings.ts';
import { until } from '../../../support/until.ts';
import { refusal, rowsOf, startManagement, type Management } from '../management.ts';

const STRIPE_SECRET = 'whsec_0123456789abcdef0123';
const CREEM_SECRET = 'whsec_MDEyMzQ1Njc4OWFiY2RlZg==';
const VOTE_SECRET = 'secret-of-the-directory';
const TOPGG_SECRET = 'whs_of_this_test';
const DISCORD = signingKeyOf('this test');
const PRIVATE = 'words-of-a-body';

describe('webhooks that are refused', function () {
  this.timeout(20_000);
  let management: Management;
  let server: Server;
  let url: string;

  before(async () => {
    management = await startManagement('webhook_refusals');
    const { deps } = management;
    const rewards = rewardSettingsOf({
      VOTE_TOPGG_SECRET: TOPGG_SECRET,
      VOTE_TOPGG_PROJECT_ID: '1',
      VOTE_DISCORDPLACE_SECRET: VOTE_SECRET,
      DISCORD_PUBLIC_KEY: DISCORD.publicKey,
    });
    const stripe = {
      secretKey: 'sk_test_x',
      webhookSecrets: [STRIPE_SECRET],
      apiUrl: null,
      live: false,
      autoTopUp: { monthlyMax: deps.settings.adjustmentApprovalThreshold, slotSeconds: 3600 },
      fraudWarningFreezes: true,
    };
    const creem = { apiKey: 'creem_x', webhookSecrets: [CREEM_SECRET], productId: 'prod_1', apiUrl: null, live: false };
    const payments = { ...deps.settings.payments, stripe, creem };
    server = createServer(createManagementApp({ ...deps, settings: { ...deps.settings, payments, rewards } }));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/webhooks`;
  });
  after(async () => {
    server.closeAllConnections();
    server.close();
    await management.stop();
  });

  const counted = async (provider: string, reason: string): Promise<number> => {
    const { values } = await management.registry.getSingleMetric('holdfast_webhooks_refused_total')!.get();
    return values.find(({ labels }) => labels['provider'] === provider && labels['reason'] === reason)?.value ?? 0;
  };
  const seconds = (ahead = 0): number => Math.floor(Date.now() / 1000) + ahead;
  const post = (path: string, headers: Record<string, string>, body: string | Uint8Array = '{}'): Promise<Response> =>
    fetch(`${url}/${path}`, { method: 'POST', headers, body: Buffer.from(body) });

  const stripeEvent = (change: object = {}): string =>
    JSON.stringify({
      ...{ id: 'evt_1', object: 'event', type: 'x', livemode: false, data: { object: { note: PRIVATE } } },
      ...change,
    });
  const byStripe = (payload: string, { ahead = 0, secret = STRIPE_SECRET } = {}): Record<string, string> => ({
    'stripe-signature': Stripe.webhooks.generateTestHeaderString({ payload, secret, timestamp: seconds(ahead) }),
  });
  const creemEvent = (change: object = {}): string =>
    JSON.stringify({
      id: 'evt_1',
      eventType: 'checkout.completed',
      object: { mode: 'test', note: PRIVATE },
      ...change,
    });
  const byCreem = (body: string, form: 'legacy' | 'standard', { ahead = 0, secret = CREEM_SECRET } = {}) =>
    signatureHeaders(form, {
      ...{ body: Buffer.from(body), messageId: 'msg_1', timestamp: seconds(ahead), secrets: [secret] },
    });
  const byTopgg = (body: string, { ahead = 0, secret = TOPGG_SECRET } = {}): Record<string, string> => {
    const time = seconds(ahead);
    return {
      'x-topgg-signature': `t=${time},v1=${createHmac('sha256', secret).update(`${time}.${body}`).digest('hex')}`,
    };
  };
  const byDiscord = (body: string, { ahead = 0, key = DISCORD } = {}): Record<string, string> =>
    eventHeaders(key, String(seconds(ahead)), Buffer.from(body));

  const standard = byCreem('{}', 'standard');
  const signedBy = (text: string, how: object = {}) => [byStripe(text, how), text] as const;
  const thin = { object: 'v2.core.event', type: 'v1.payment_intent.succeeded', data: undefined };
  const cases: readonly (readonly [
    provider: string,
    reason: keyof typeof WEBHOOK_REFUSAL_CURES,
    status: number,
    what: string,
    send: () => readonly [headers: Record<string, string>, body?: string | Uint8Array],
    path?: string,
  ])[] = [
    ['stripe', 'no_signature', 400, 'no header', () => [{}, stripeEvent()]],
    ['stripe', 'malformed_signature', 400, 'a text', () => [{ 'stripe-signature': 'nonsense' }, stripeEvent()]],
    ['stripe', 'malformed_signature', 400, 'no scheme v1', () => [{ 'stripe-signature': 't=1,v0=aa' }, stripeEvent()]],
    [
      ...(['stripe', 'malformed_signature', 400, 'an old one, with a new time before its own'] as const),
      () => {
        const { 'stripe-signature': old } = byStripe(stripeEvent(), { ahead: -7200 });
        return [{ 'stripe-signature': `t=${seconds()},${old}` }, stripeEvent()];
      },
    ],
    ['stripe', 'wrong_secret', 400, 'of another endpoint', () => signedBy(stripeEvent(), { secret: 'whsec_other' })],
    ['stripe', 'wrong_secret', 400, 'altered bytes', () => [byStripe(stripeEvent()), `${stripeEvent()} `]],
    ['stripe', 'wrong_secret', 400, 'no body', () => [byStripe(stripeEvent()), '']],
    ['stripe', 'clock', 400, 'six minutes ago', () => signedBy(stripeEvent(), { ahead: -360 })],
    ['stripe', 'clock', 400, 'six minutes ahead', () => signedBy(stripeEvent(), { ahead: 360 })],
    ['stripe', 'other_mode', 400, 'a live event', () => signedBy(stripeEvent({ livemode: true }))],
    ['stripe', 'thin_event', 400, 'a thin event', () => signedBy(stripeEvent(thin))],
    ['stripe', 'unreadable', 400, 'no JSON', () => signedBy('hello')],
    ['stripe', 'unreadable', 400, 'null', () => signedBy('null')],
    ['stripe', 'unreadable', 400, 'a list', () => signedBy('[]')],
    ['stripe', 'unreadable', 400, 'no id', () => signedBy(stripeEvent({ id: undefined }))],
    ['stripe', 'unreadable', 400, 'an endless id', () => signedBy(stripeEvent({ id: 'x'.repeat(5000) }))],
    ['stripe', 'unreadable', 400, 'no type', () => signedBy(stripeEvent({ type: 7 }))],
    ['stripe', 'unreadable', 400, 'no mode', () => signedBy(stripeEvent({ livemode: null }))],
    ['stripe', 'too_large', 413, 'two megabytes', () => signedBy(stripeEvent({ pad: 'x'.repeat(2 << 20) }))],
    [
      ...(['stripe', 'unreadable', 400, 'an unknown encoding'] as const),
      () => [{ ...byStripe('{}'), 'content-encoding': 'zip' }, '{}'],
    ],
    [
      ...(['stripe', 'too_large', 413, 'a small body that unpacks to a large one'] as const),
      () => [{ ...byStripe('{}'), 'content-encoding': 'gzip' }, gzipSync(Buffer.alloc(2 << 20))],
    ],
    ['creem', 'no_signature', 400, 'no header', () => [{}, creemEvent()]],
    ['creem', 'wrong_secret', 400, 'the older form', () => [byCreem('x', 'legacy'), creemEvent()]],
    ['creem', 'wrong_secret', 400, 'the newer form', () => [byCreem('x', 'standard'), creemEvent()]],
    [
      ...(['creem', 'malformed_signature', 400, 'a missing header'] as const),
      () => [{ 'webhook-id': 'x', 'webhook-signature': standard['webhook-signature']! }, '{}'],
    ],
    [
      ...(['creem', 'clock', 400, 'six minutes ago'] as const),
      () => [byCreem(creemEvent(), 'standard', { ahead: -360 }), creemEvent()],
    ],
    [
      ...(['creem', 'other_mode', 400, 'a live event'] as const),
      () => [byCreem(creemEvent({ object: { mode: 'prod' } }), 'legacy'), creemEvent({ object: { mode: 'prod' } })],
    ],
    ['creem', 'unreadable', 400, 'no event', () => [byCreem('[]', 'legacy'), '[]']],
    ['discord', 'no_signature', 401, 'no header', () => [{}]],
    ['discord', 'malformed_signature', 401, 'no time', () => [{ 'x-signature-ed25519': 'a'.repeat(128) }]],
    ['discord', 'wrong_secret', 401, 'another key', () => [byDiscord('{}', { key: signingKeyOf('x') }), '{}']],
    ['discord', 'clock', 401, 'six minutes ahead', () => [byDiscord('{}', { ahead: 360 }), '{}']],
    ['discord', 'unreadable', 400, 'no JSON', () => [byDiscord('x'), 'x']],
    ['discord', 'too_large', 413, 'a large body', () => [byDiscord('x'), 'x'.repeat(100_000)]],
    ['votes/discordplace', 'no_signature', 401, 'no header', () => [{}], 'votes/discordplace'],
    [
      ...(['votes/discordplace', 'wrong_secret', 401, 'another secret'] as const),
      () => [{ authorization: 'x' }],
      'votes/discordplace',
    ],
    ['votes/topgg', 'wrong_secret', 401, 'another secret', () => [byTopgg('x'), '{}'], 'votes/topgg'],
    ['votes/topgg', 'clock', 401, 'six minutes ago', () => [byTopgg('{}', { ahead: -360 }), '{}'], 'votes/topgg'],
    [
      ...(['votes/topgg', 'malformed_signature', 401, 'a webhook of the old kind'] as const),
      () => [{ authorization: TOPGG_SECRET }],
      'votes/topgg',
    ],
    ['unknown', 'not_configured', 404, 'a path with a slash too many', () => signedBy(stripeEvent()), 'stripe/'],
    ['unknown', 'not_configured', 404, 'a path that is mistyped', () => signedBy(stripeEvent()), 'Stripe/events'],
    ['votes', 'not_configured', 404, 'a site that is none', () => [{ authorization: 'x' }], 'votes/of-nobody'],
  ];

  for (const [provider, reason, status, what, send, path = provider] of cases) {
    it(`${provider}, ${what}: ${reason}`, async () => {
      const before = await counted(provider, reason);
      const response = await post(path, ...send());
      assert.equal(response.status, status);
      const { error, reason: told } = (await response.json()) as { error: unknown; reason?: string };
      // A body that could not be read is answered as on any other route.
      if (typeof error === 'string') assert.equal(told, reason);
      assert.equal((await counted(provider, reason)) - before, 1);
      await until('the database to have it', async () =>
        (await webhookCounts(management.admin)).some(
          (row) => row.kind === 'refused' && row.provider === provider && row.reason === reason,
        ),
      );
      const line = management.logged.find((entry) => entry['provider'] === provider && entry['reason'] === reason);
      assert.equal(line?.['msg'], 'webhook refused');
      assert.ok(String(line?.['cure']).length > 20);
    });
  }

  it('refused webhooks are shown to staff, with advice for each', async () => {
    const { status, body } = await management.call('GET', '/admin/webhooks');
    assert.equal(status, 200);
    const shown = rowsOf(body).find(({ provider, reason }) => provider === 'stripe' && reason === 'wrong_secret');
    assert.deepEqual([shown?.['kind'], shown?.['count']], ['refused', 1]);
    assert.match(String(shown?.['cure']), /copy the signing secret of this very endpoint from stripe/);
    const asCustomer = await management.call('GET', '/admin/webhooks', { token: management.tokens.account });
    assert.equal(refusal(asCustomer).status, 403);
  });

  it('a refusal says how far the clocks are apart, and the modes of event and key', async () => {
    const details = async (reason: string): Promise<string> =>
      (await webhookCounts(management.admin)).find((row) => row.provider === 'stripe' && row.reason === reason)
        ?.lastDetail ?? '';
    assert.match(await details('clock'), /^signed 3(59|6\d) s before our time$/);
    assert.equal(await details('other_mode'), 'a live event, and a test key');
  });

  it('refusals store nothing of bodies, signatures or secrets', async () => {
    const kept = JSON.stringify([management.logged, await webhookCounts(management.admin)]);
    for (const secret of [PRIVATE, STRIPE_SECRET, CREEM_SECRET, TOPGG_SECRET, VOTE_SECRET, 'v1=', 'evt_1']) {
      assert.ok(!kept.includes(secret), secret);
    }
  });

  it('a body that never comes whole is counted', async () => {
    const call = httpRequest(`${url}/stripe`, {
      method: 'POST',
      headers: { ...byStripe('{}'), 'content-length': '100' },
    });
    call.on('error', () => undefined);
    call.write('{');
    await new Promise((resolve) => setTimeout(resolve, 100));
    call.destroy();
    await until('it to be counted', async () => (await counted('stripe', 'not_received')) === 1);
  });

  it('a flood is one line and one row per interval, with all of it in the metric', async () => {
    const lines = (): number => management.logged.filter((entry) => entry['reason'] === 'no_signature').length;
    const [before, written] = [await counted('stripe', 'no_signature'), lines()];
    await Promise.all(Array.from({ length: 200 }, () => post('stripe', {}).then((response) => response.text())));
    assert.equal((await counted('stripe', 'no_signature')) - before, 200);
    assert.ok(lines() - written <= 1);
    assert.equal((await webhookCounts(management.admin)).filter(({ provider }) => provider === 'stripe').length, 9);
  });

  it('an event of a connected account is taken in either mode: refused, Stripe would switch the endpoint off', async () => {
    const event = stripeEvent({ id: 'evt_connected', livemode: true, account: 'acct_1' });
    assert.equal((await post('stripe', byStripe(event), event)).status, 200);
  });

  it('every reason has its cure', () => {
    for (const cure of Object.values(WEBHOOK_REFUSAL_CURES)) assert.ok(cure.length > 20);
  });
});
