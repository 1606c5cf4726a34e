/**
 * `npm run doctor` over a set-up in which all is well, and over broken ones: each is told by one line that names the
 * fault and what to do about it. Real parts, real twins, the program in a process of its own.
 */
import assert from 'node:assert/strict';
import { Connection } from '@temporalio/client';
import { msToTs } from '@temporalio/common/lib/time.js';
import { freePort } from '../../twins/kit/ports.ts';
import { startChainTwin, type ChainTwin } from '../../twins/chain/twin.ts';
import { DEFAULT_PRODUCT_ID, startCreemTwin, type CreemTwin } from '../../twins/creem/twin.ts';
import { startStripeTwin, type StripeTwin } from '../../twins/stripe/twin.ts';
import { STRIPE_WEBHOOK_EVENTS } from '../../providers/stripe/webhook-events.ts';
import { checkoutOf, People } from '../support/people.ts';
import { examine, type Examination } from '../support/doctor.ts';
import { startOldPostgres } from '../support/old-postgres.ts';
import { createTestDatabase, testServices } from '../support/services.ts';
import { startTestStack, type TestStack } from '../support/stack.ts';
import { TwinControl } from '../support/twin-control.ts';
import { until } from '../support/until.ts';
import { RETENTION_DAYS, type Namespaces } from '../../contract/index.ts';
import { XPUB } from '../support/crypto-stack.ts';

const STRIPE_SECRET = 'whsec_0123456789abcdef0123';
const CREEM_SECRET = 'whsec_bmV3LXNlY3JldC1vZi10aGUtdGVzdHM=';
const CHECKS = [
  'configuration',
  'postgresql',
  'temporal',
  'public address',
  'webhooks',
  'stripe key',
  'stripe clock',
  'stripe webhook',
  'stripe events',
  'creem key',
  'creem clock',
  'creem webhook',
  'chain 1',
  'upstreams',
];

describe('the doctor', function () {
  this.timeout(120_000);
  let stack: TestStack;
  let stripe: StripeTwin;
  let creem: CreemTwin;
  let chain: ChainTwin;
  let env: Record<string, string>;
  const control = new TwinControl(() => stripe.url);

  before(async () => {
    stripe = await startStripeTwin({ webhookSecrets: [STRIPE_SECRET], retryLadderMs: [100, 300, 60_000] });
    creem = await startCreemTwin({ webhooks: { secrets: [CREEM_SECRET] } });
    chain = await startChainTwin({
      chains: [{ chainId: 1, blockSeconds: null, slotsInAnEpoch: 2 }],
      vendors: ['alpha', 'beta'],
    });
    await chain.chain(1).mine(40);
    const port = String(await freePort());
    const publicUrl = `http://127.0.0.1:${port}`;
    const settings = {
      PUBLIC_URL: publicUrl,
      HOLDFAST_PORT: port,
      STRIPE_SECRET_KEY: 'sk_test_tests_of_the_doctor',
      STRIPE_WEBHOOK_SECRETS: STRIPE_SECRET,
      STRIPE_API_URL: stripe.url,
      CREEM_API_KEY: 'creem_test_tests',
      CREEM_WEBHOOK_SECRETS: CREEM_SECRET,
      CREEM_PRODUCT_ID: DEFAULT_PRODUCT_ID,
      CREEM_API_URL: creem.url,
      CRYPTO_XPUB: XPUB,
      CRYPTO_LIVE: 'false',
      CHAIN_1_RPC_URLS: chain.rpcUrls['1']!.join(','),
      CHAIN_POLL_SECONDS: '2',
      CHAIN_RPC_TIMEOUT_SECONDS: '2',
      UPSTREAM_TEST_KEY: 'twin-key-of-the-doctor',
      UPSTREAM_TEST_KEY_HOSTS: '127.0.0.1:*',
      UPSTREAM_PRIVATE_HOSTS: '127.0.0.1:*',
    };
    stack = await startTestStack({ name: 'doctor', env: settings });
    env = {
      ...settings,
      DATABASE_URL: stack.database.url,
      TEMPORAL_ADDRESS: testServices().temporalAddress,
      TEMPORAL_NAMESPACE_REQUESTS: stack.namespaces.requests,
      TEMPORAL_NAMESPACE: stack.namespaces.processes,
    };
    await keepRunsAsInProduction(stack.namespaces);
    stripe.configureWebhooks({ url: `${publicUrl}/webhooks/stripe` });
    creem.configureWebhooks({ url: `${publicUrl}/webhooks/creem` });
  });
  after(async () => {
    await stack?.stop();
    await Promise.all([stripe, creem, chain].map((twin) => twin?.close()));
  });

  /** Namespaces of tests forget their runs after a day, which the doctor would rightly tell. */
  async function keepRunsAsInProduction({ requests, processes }: Namespaces): Promise<void> {
    const connection = await Connection.connect({ address: testServices().temporalAddress });
    for (const [namespace, days] of [
      [requests, RETENTION_DAYS.requests],
      [processes, RETENTION_DAYS.processes],
    ] as const) {
      const workflowExecutionRetentionTtl = msToTs(`${days} days`);
      await connection.workflowService.updateNamespace({ namespace, config: { workflowExecutionRetentionTtl } });
    }
    await connection.close();
  }

  /** The one fault that is found, and nothing else is wrong. */
  function onlyFault({ code, lines }: Examination): string {
    assert.equal(code, 1);
    const wrong = lines.filter(({ state }) => state !== 'ok');
    assert.equal(wrong.length, 1, JSON.stringify(wrong, null, 2));
    const { state, check, message, cure = '' } = wrong[0]!;
    assert.equal(state, 'fault');
    return `${check}: ${message} -> ${cure}`;
  }

  it('finds nothing where all is well, and shows no secret', async () => {
    const found = await examine(env);
    assert.deepEqual(found.wrong(), []);
    assert.equal(found.code, 0);
    assert.deepEqual(
      found.lines.map(({ check }) => check),
      CHECKS,
    );
    const { screen, code } = await examine(env, []);
    assert.equal(code, 0);
    assert.match(screen, /^ok {7}stripe webhook {2}we_twin sends every event that is needed to http/m);
    assert.match(screen, /14 ok, 0 warnings, 0 faults\n$/);
    for (const secret of [
      STRIPE_SECRET,
      CREEM_SECRET,
      'sk_test',
      'creem_test',
      'twin-key',
      new URL(env['DATABASE_URL']!).password,
    ]) {
      assert.equal(screen.includes(secret) || found.screen.includes(secret), false, secret);
    }
  });

  describe('wrong webhook secret', () => {
    after('what was refused comes again, and all is well', async () => {
      stripe.configureWebhooks({ secrets: [STRIPE_SECRET] });
      for (const { id } of stripe.deliveries()) await control.steer(`deliveries/${id}/redeliver`, {});
      const found = await examine(env);
      assert.deepEqual(found.wrong(), []);
      assert.match(
        found.lines.find(({ check }) => check === 'stripe events')?.message ?? '',
        /^they arrive, the last at /,
      );
    });

    it('of Stripe: what was sent and refused names the variable', async () => {
      stripe.configureWebhooks({ secrets: ['whsec_of_another_endpoint'] });
      const customer = await new People(stack).customer();
      const { id } = await customer.order('card');
      await control.steer(`sessions/${await checkoutOf(stack, id)}/pay`, {});
      await customer.untilState(id, 'credited');
      const found = await until('what Stripe sent counts as refused', async () => {
        const examined = await examine(env, ['--json', '--only', 'stripe']);
        return examined.wrong('stripe events').length > 0 && examined;
      });
      const line = onlyFault(found);
      assert.match(line, /^stripe events: .*STRIPE_WEBHOOK_SECRETS does not hold the endpoint's signing secret/);
      assert.match(
        line,
        /checkout\.session\.completed.* -> copy the signing secret \(Stripe dashboard.*STRIPE_WEBHOOK_SECRETS/,
      );
    });

    it('is told by its reason as well: what the api has refused', async () => {
      const line = await until('the refusal is counted', async () => {
        return (await examine(env, ['--json', '--only', 'webhooks'])).wrong()[0];
      });
      assert.match(
        line,
        /^warning webhooks: calls of stripe are refused: wrong_secret.* -> no configured secret fits: copy the/,
      );
    });

    it('of Creem, which tells the right one: compared, and not shown', async () => {
      const found = await examine({ ...env, CREEM_WEBHOOK_SECRETS: 'whsec_of_another_endpoint' }, [
        '--json',
        '--only',
        'creem',
      ]);
      assert.match(
        onlyFault(found),
        /^creem webhook: CREEM_WEBHOOK_SECRETS does not hold the signing secret of whk_twin/,
      );
      assert.equal(found.screen.includes(CREEM_SECRET), false);
    });
  });

  describe('restricted key', () => {
    const restricted = () => ({ ...env, STRIPE_SECRET_KEY: 'rk_test_of_the_doctor' });
    const ALL = ['checkout_session_write', 'payment_intent_write', 'customer_write', 'payment_method_read'].concat(
      ['charge', 'dispute', 'early_fraud_warning', 'event', 'webhook'].map((resource) => `${resource}_read`),
    );
    const grant = (...names: readonly string[]) =>
      control.steer('permissions', { granted: names.map((name) => `rak_${name}`) });
    afterEach(() => control.steer('permissions', { granted: null }));

    it('with all that is needed is well', async () => {
      await grant(...ALL);
      const found = await examine(restricted(), ['--json', '--only', 'stripe key']);
      assert.deepEqual(found.wrong(), []);
      assert.match(found.lines[0]!.message, /restricted key with every permission/);
    });

    it('without a permission that payments need names it as Stripe does, and what does not work', async () => {
      await grant(...ALL.filter((name) => name !== 'charge_read' && name !== 'customer_write'));
      const line = onlyFault(await examine(restricted(), ['--json', '--only', 'stripe key']));
      assert.match(
        line,
        /lacks Customers: write \(rak_customer_write\), Charges: read \(rak_charge_read\) and Refunds: read/,
      );
      assert.match(
        line,
        /no card can be saved; .*refunds are not taken back -> edit the key and add them \(Stripe dashboard/,
      );
    });

    it('without one that only warns is a warning, and the exit code is 0', async () => {
      await grant(...ALL.filter((name) => name !== 'early_fraud_warning_read'));
      const found = await examine(restricted(), ['--json', '--only', 'stripe key']);
      assert.equal(found.code, 0);
      assert.match(
        found.wrong()[0]!,
        /^warning stripe key: .*early fraud warnings: read \(rak_early_fraud_warning_read\)/,
      );
    });

    it('a key that was revoked is named, not shown', async () => {
      const found = await examine({ ...env, STRIPE_SECRET_KEY: 'sk_live_revoked' }, ['--json', '--only', 'stripe key']);
      // Of another mode than the others, so the configuration is reported as well.
      assert.equal(found.code, 0, 'nothing of Stripe is asked with a configuration that cannot start');
      const whole = await examine({ ...env, STRIPE_SECRET_KEY: 'sk_live_revoked' });
      assert.match(whole.wrong('configuration').join('\n'), /STRIPE_SECRET_KEY: is of live mode/);
      assert.equal(whole.screen.includes('sk_live_revoked'), false);
    });
  });

  it('a clock 6 minutes off: by how much, in which direction, and that events are refused', async () => {
    const other = await startStripeTwin({
      webhookSecrets: [STRIPE_SECRET],
      webhookUrl: `${env['PUBLIC_URL']}/webhooks/stripe`,
    });
    try {
      other.advanceClock(360);
      const line = onlyFault(await examine({ ...env, STRIPE_API_URL: other.url }));
      assert.match(
        line,
        /^stripe clock: this machine's clock is 3(59|60|61) s behind Stripe's: its events are refused/,
      );
      assert.match(line, /-> set the clock by NTP/);
    } finally {
      await other.close();
    }
  });

  describe('vendors of a chain', () => {
    afterEach(() => {
      for (const vendor of ['alpha', 'beta']) chain.chain(1).fault(vendor, null);
    });

    it('RPC of another chain: names the vendor, its chain, and that too few are left', async () => {
      chain.chain(1).fault('beta', { chainId: 137 });
      const found = await examine(env, ['--json', '--only', 'chain']);
      assert.equal(found.code, 1);
      const [wrong, tooFew] = found.wrong();
      assert.match(
        wrong!,
        /^fault chain 1: 127\.0\.0\.1#2 is on chain 137, not on 1 \(Ethereum\) -> put the vendor's address for Ethereum into CHAIN_1_RPC_URLS$/,
      );
      assert.match(tooFew!, /1 of 2 vendors of Ethereum can be used, two are needed/);
    });

    it('a chain that is dead', async () => {
      chain.chain(1).fault('alpha', { status: 503 });
      chain.chain(1).fault('beta', { hang: true });
      const found = await examine(env, ['--json', '--only', 'chain']);
      const wrong = found.wrong();
      assert.match(wrong[0]!, /127\.0\.0\.1#1: answers with HTTP 503/);
      assert.match(wrong[1]!, /127\.0\.0\.1#2: no answer within 2 s/);
      assert.match(wrong[2]!, /0 of 2 vendors of Ethereum can be used/);
    });

    it('one that shows few blocks at once, or none', async () => {
      chain.chain(1).fault('alpha', { maxRange: 10 });
      chain.chain(1).fault('beta', { refusals: [{ method: 'eth_getLogs', status: 403, text: 'not in your plan' }] });
      const wrong = (await examine(env, ['--json', '--only', 'chain'])).wrong();
      assert.match(wrong[0]!, /^warning chain 1: 127\.0\.0\.1#1 shows logs of [5-9] blocks at once, not of 2000/);
      assert.match(wrong[1]!, /^fault chain 1: 127\.0\.0\.1#2 refuses the logs of Ethereum, one block's as well/);
    });
  });

  it('PostgreSQL too old: which is there, which is needed', async () => {
    const old = await startOldPostgres('16.4');
    try {
      const found = await examine({ ...env, DATABASE_URL: old.url });
      const [line] = found.wrong('postgresql');
      assert.match(
        line!,
        /^fault postgresql: PostgreSQL 18 or newer is needed, and DATABASE_URL leads to 16\.4 at 127/,
      );
      assert.match(line!, /-> upgrade that server with pg_upgrade, or let DATABASE_URL lead to one of version 18$/);
      assert.equal(found.code, 1);
    } finally {
      await old.close();
    }
  });

  it('Temporal away: at which address, and what goes on meanwhile', async () => {
    const line = onlyFault(await examine({ ...env, TEMPORAL_ADDRESS: '127.0.0.1:1' }));
    assert.match(line, /^temporal: no Temporal server answers at TEMPORAL_ADDRESS, 127\.0\.0\.1:1 /);
    assert.match(
      line,
      /-> start it, or correct TEMPORAL_ADDRESS \(host:port\); requests go on meanwhile, payments wait$/,
    );
  });

  describe('further faults of the same kinds', () => {
    afterEach(() =>
      stripe.configureWebhooks({ url: `${env['PUBLIC_URL']}/webhooks/stripe`, events: ['*'], status: 'enabled' }),
    );

    const webhook = async () => (await examine(env, ['--json', '--only', 'stripe webhook'])).wrong()[0] ?? '';

    it('the webhook endpoint leads elsewhere, is disabled, or sends too little', async () => {
      stripe.configureWebhooks({ url: 'https://elsewhere.example/webhooks/stripe?token=abc' });
      assert.match(
        await webhook(),
        /^fault .*no webhook endpoint .* leads to http.*: there are only https:\/\/elsewhere\.example\/webhooks\/stripe -> add it/,
      );
      stripe.configureWebhooks({ url: `${env['PUBLIC_URL']}/webhooks/stripe/`, status: 'disabled' });
      assert.match(await webhook(), /^fault .*the webhook endpoint we_twin is disabled -> enable it/);
      const events = STRIPE_WEBHOOK_EVENTS.filter((event) => !event.startsWith('charge.dispute.c'));
      stripe.configureWebhooks({ status: 'enabled', events });
      assert.match(
        await webhook(),
        /^fault .*does not send charge\.dispute\.created and charge\.dispute\.closed -> add them to we_twin/,
      );
      stripe.configureWebhooks({ url: null });
      assert.match(await webhook(), /there is none -> add it/);
    });

    it('no worker has ever run in these namespaces', async () => {
      const found = await examine({ ...env, TEMPORAL_NAMESPACE: 'nobody-made-this' }, ['--json', '--only', 'temporal']);
      assert.match(onlyFault(found), /^temporal: there is no namespace nobody-made-this -> start a worker/);
    });

    it('the database is away, unknown, or its login is refused', async () => {
      const of = async (change: (url: URL) => void): Promise<string> => {
        const url = new URL(env['DATABASE_URL']!);
        change(url);
        return (await examine({ ...env, DATABASE_URL: url.href }, ['--json', '--only', 'postgresql'])).wrong()[0] ?? '';
      };
      assert.match(
        await of((url) => (url.port = '1')),
        /where no PostgreSQL answers .* -> start the server, or correct DATABASE_URL/,
      );
      assert.match(await of((url) => (url.pathname = '/not_there')), /the database of DATABASE_URL does not exist/);
      assert.match(
        await of((url) => (url.pathname = '/postgres')),
        /has no schema of Holdfast -> run npm run db:migrate/,
      );
      assert.match(
        await of((url) => (url.password = 'wrong')),
        /the login of DATABASE_URL is refused .* -> correct user and password/,
      );
    });

    it('PostgreSQL is set so that money can be lost, is read-only, or is not of this release', async () => {
      const database = await createTestDatabase('doctor-settings');
      const admin = database.admin();
      const name = new URL(database.url).pathname.slice(1);
      const wrong = async (url = database.url): Promise<string> =>
        (await examine({ ...env, DATABASE_URL: url }, ['--json', '--only', 'postgresql'])).wrong().join('\n');
      try {
        assert.equal(await wrong(), '');
        await admin.query(`alter database ${name} set synchronous_commit = off`);
        await admin.query(`alter database ${name} set default_transaction_read_only = on`);
        const settings = await wrong();
        assert.match(
          settings,
          /synchronous_commit is off: a crash loses money .* -> alter system set synchronous_commit = on/,
        );
        assert.match(settings, /the server is read-only .* -> let DATABASE_URL lead to the primary/);
        await admin.query(`alter database ${name} reset all`);
        await admin.query("update public.migration set name = '9999_from_tomorrow' where name = '0013_rewards'");
        const migrations = await wrong();
        assert.match(migrations, /migrations have not been applied: 0013_rewards -> run npm run db:migrate/);
        assert.match(
          migrations,
          /the database is newer than this code: 9999_from_tomorrow -> run the release that migrated it/,
        );
        await admin.query("create role doctor_stranger login password 'stranger'");
        const url = new URL(database.url);
        url.username = 'doctor_stranger';
        url.password = 'stranger';
        assert.match(await wrong(url.href), /may not act as holdfast_gateway -> grant holdfast_gateway to that login/);
      } finally {
        await admin.query('drop owned by doctor_stranger; drop role doctor_stranger').catch(() => undefined);
        await database.drop();
      }
    });

    it('vendors of one company, and real money without TLS', async () => {
      const off = { STRIPE_SECRET_KEY: '', CREEM_API_KEY: '', CRYPTO_LIVE: 'true' };
      const urls = 'http://a.vendor.localhost:1,http://b.vendor.localhost:1';
      const found = await examine({ ...env, ...off, CHAIN_1_RPC_URLS: urls });
      const chainLines = found.wrong('chain 1').join('\n');
      assert.match(
        chainLines,
        /warning chain 1: all vendors of Ethereum are of vendor\.localhost: .* -> let CHAIN_1_RPC_URLS name vendors of two/,
      );
      assert.match(
        found.wrong('public address').join('\n'),
        /without TLS, while real money is taken -> set PUBLIC_URL to an https/,
      );
    });

    it('what the upstream refuses, and what the configuration does not let be called', async () => {
      const of = async (change: Record<string, string>) =>
        (await examine({ ...env, ...change }, ['--json', '--only', 'upstreams'])).wrong()[0] ?? '';
      assert.match(
        await of({ UPSTREAM_TEST_KEY: '' }),
        /api_key_env names the variable UPSTREAM_TEST_KEY, which holds no usable key -> set UPSTREAM_TEST_KEY/,
      );
      assert.match(await of({ UPSTREAM_PRIVATE_HOSTS: '' }), /base_url must be https.* -> correct the upstream/);
      await fetch(`${stack.twin.url}/_twin/config`, {
        method: 'POST',
        body: JSON.stringify({ api_key: 'another-key-altogether' }),
      });
      assert.match(
        await of({}),
        /127\.0\.0\.1:\d+ refuses the key of UPSTREAM_TEST_KEY \(401\); test\/\S+ and \d+ more cannot be served -> set a valid key/,
      );
      await fetch(`${stack.twin.url}/_twin/config`, { method: 'POST', body: JSON.stringify({ api_key: null }) });
    });

    it('an address that leads to nobody, or to another program', async () => {
      const of = async (url: string) =>
        (await examine({ ...env, PUBLIC_URL: url }, ['--json', '--only', 'public'])).wrong()[0] ?? '';
      assert.match(await of('http://127.0.0.1:1'), /nobody answers at PUBLIC_URL, http:\/\/127\.0\.0\.1:1 /);
      assert.match(await of(stripe.url), /is another program's: it answers \/readyz with 404/);
    });

    it('variables that keep a process from starting are all named, and the rest is still checked', async () => {
      const found = await examine({ ...env, CHAIN_1_RPC_URLS: 'https://only.example', KEYS_PER_ACCOUNT: 'many' });
      assert.equal(found.code, 1);
      const wrong = found.wrong('configuration').join('\n');
      assert.match(wrong, /KEYS_PER_ACCOUNT: .* -> correct the variable/);
      assert.match(wrong, /CHAIN_1_RPC_URLS: must name two vendors/);
      assert.equal(found.lines.find(({ check }) => check === 'postgresql')?.state, 'ok');
    });
  });
});
