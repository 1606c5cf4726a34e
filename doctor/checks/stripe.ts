/**
 * Stripe: the key and what it may do, the clock, the webhook endpoint, and whether its events arrive. Whether a call is
 * allowed Stripe decides before it looks at anything else, so a call for an object that does not exist tells it and
 * changes nothing.
 */
import { STRIPE_WEBHOOK_EVENTS } from '../../providers/stripe/webhook-events.ts';
import type { StripeSettings } from '../../providers/stripe/settings.ts';
import { fault, listed, ok, warning, wordsOf, type Check, type Finding } from '../check.ts';
import { ask, type HttpAnswer } from '../http.ts';
import { clockFinding } from './clock.ts';
import { arrivalFinding, type Arrivals } from './arrivals.ts';
import { endpointPlace, isSamePlace } from './webhook-place.ts';

const STRIPE_URL = 'https://api.stripe.com';
const KEYS_PAGE = 'Stripe dashboard, Developers, API keys';
const WEBHOOKS_PAGE = 'Stripe dashboard, Developers, Webhooks';
/** Events are asked about that are younger than this; Stripe itself repeats them for three days. */
const EVENTS_SECONDS = 3 * 86_400;

interface Permission {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  /** As the dashboard names it. */
  readonly title: string;
  /** The function that fails without it. */
  readonly without: string;
  /** False: payments are credited without it too. */
  readonly isEssential: boolean;
}

const PERMISSIONS: readonly Permission[] = [
  {
    method: 'POST',
    path: '/v1/checkout/sessions/cs_doctor/expire',
    title: 'Checkout Sessions: write',
    without: 'nobody can begin a payment by card',
    isEssential: true,
  },
  {
    method: 'POST',
    path: '/v1/payment_intents/pi_doctor/cancel',
    title: 'PaymentIntents: write',
    without: 'payments are not read, saved cards not charged',
    isEssential: true,
  },
  {
    method: 'POST',
    path: '/v1/customers/cus_doctor',
    title: 'Customers: write',
    without: 'no card can be saved',
    isEssential: true,
  },
  {
    method: 'GET',
    path: '/v1/payment_methods/pm_doctor',
    title: 'PaymentMethods: read',
    without: 'saved cards are not recognised',
    isEssential: true,
  },
  {
    method: 'GET',
    path: '/v1/charges?limit=1',
    title: 'Charges: read',
    without: 'payments are not compared with the ledger',
    isEssential: true,
  },
  {
    method: 'GET',
    path: '/v1/refunds?limit=1',
    title: 'Refunds: read',
    without: 'refunds are not taken back',
    isEssential: true,
  },
  {
    method: 'GET',
    path: '/v1/disputes?limit=1',
    title: 'Disputes: read',
    without: 'disputes are not taken back',
    isEssential: true,
  },
  {
    method: 'GET',
    path: '/v1/radar/early_fraud_warnings?limit=1',
    title: 'Radar early fraud warnings: read',
    without: 'no warning of fraud is seen',
    isEssential: false,
  },
  {
    method: 'GET',
    path: '/v1/events?limit=1',
    title: 'Events: read',
    without: 'lost events cannot be told here',
    isEssential: false,
  },
  {
    method: 'GET',
    path: '/v1/webhook_endpoints?limit=1',
    title: 'Webhook Endpoints: read',
    without: 'the endpoint cannot be checked here',
    isEssential: false,
  },
];

export interface StripePlace {
  readonly settings: StripeSettings;
  /** The address at which customers and providers reach the product. */
  readonly publicUrl: string;
  readonly arrivals: Arrivals;
}

type Call = (path: string, signal: AbortSignal, method?: string) => Promise<HttpAnswer>;

export function stripeChecks({ settings, publicUrl, arrivals }: StripePlace): Check[] {
  const { secretKey, live, apiUrl } = settings;
  const base = (apiUrl ?? STRIPE_URL).replace(/\/+$/, '');
  const call: Call = (path, signal, method = 'GET') =>
    ask(`${base}${path}`, { signal, method, headers: { authorization: `Bearer ${secretKey}` } });
  const silentCure = `see whether this machine reaches ${new URL(base).host} (proxy, firewall, DNS)`;
  return [
    { name: 'stripe key', run: (signal) => keyFindings(call, signal, { live, secretKey, base }), silentCure },
    { name: 'stripe clock', run: async (signal) => [await clockOf(call, signal, base)], silentCure },
    { name: 'stripe webhook', run: (signal) => endpointFindings(call, signal, publicUrl, live), silentCure },
    { name: 'stripe events', run: (signal) => eventFindings(call, signal, arrivals), silentCure },
  ];
}

async function keyFindings(
  call: Call,
  signal: AbortSignal,
  { live, secretKey, base }: { live: boolean; secretKey: string; base: string },
): Promise<Finding[]> {
  let answers: { permission: Permission; answer: HttpAnswer }[];
  try {
    answers = await Promise.all(
      PERMISSIONS.map(async (permission) => ({
        permission,
        answer: await call(permission.path, signal, permission.method),
      })),
    );
  } catch (error) {
    return [unreachable(error, base)];
  }
  if (answers.some(({ answer }) => answer.status === 401)) {
    const mode = live ? 'live' : 'test';
    return [
      fault('Stripe refuses STRIPE_SECRET_KEY', `set a ${mode} key that is not revoked or expired (${KEYS_PAGE})`),
    ];
  }
  const broken = answers.find(({ answer }) => answer.status >= 500 || answer.status === 429);
  if (broken !== undefined) {
    return [warning(`Stripe answers with ${broken.answer.status} for now`, 'run the doctor again in some minutes')];
  }
  const refused = answers.filter(({ answer }) => answer.status === 403);
  if (refused.length === 0) {
    const kind = secretKey.startsWith('rk_') ? 'restricted key' : 'secret key';
    return [ok(`${live ? 'live' : 'test'} mode, ${kind} with every permission that is needed`)];
  }
  const findings: Finding[] = [];
  for (const isEssential of [true, false]) {
    const lacking = refused.filter(({ permission }) => permission.isEssential === isEssential);
    if (lacking.length === 0) continue;
    const names = lacking.map(({ permission, answer }) => `${permission.title}${namedBy(answer)}`);
    const lost = lacking.map(({ permission }) => permission.without);
    const message = `the restricted key of STRIPE_SECRET_KEY lacks ${listed(names)}: ${lost.join('; ')}`;
    const cure = `edit the key and add ${lacking.length === 1 ? 'it' : 'them'} (${KEYS_PAGE})`;
    findings.push(isEssential ? fault(message, cure) : warning(message, cure));
  }
  return findings;
}

/** The permission as Stripe's own words name it. */
function namedBy({ body }: HttpAnswer): string {
  const { error } = (body ?? {}) as { error?: { message?: unknown } };
  const name = /rak_\w+/.exec(typeof error?.message === 'string' ? error.message : '')?.[0];
  return name === undefined ? '' : ` (${name})`;
}

async function clockOf(call: Call, signal: AbortSignal, base: string): Promise<Finding> {
  try {
    return clockFinding((await call('/v1/events?limit=1', signal)).aheadSeconds, 'Stripe');
  } catch (error) {
    return unreachable(error, base);
  }
}

interface Endpoint {
  readonly id: string;
  readonly url: string;
  readonly status: string;
  readonly enabled_events: readonly string[];
}

async function endpointFindings(call: Call, signal: AbortSignal, publicUrl: string, live: boolean): Promise<Finding[]> {
  const place = endpointPlace(publicUrl, 'stripe');
  const { status, body } = await call('/v1/webhook_endpoints?limit=100', signal);
  if (status !== 200) return [warning(notAllowed(status), `allow the key Webhook Endpoints: read (${KEYS_PAGE})`)];
  const all = (body as { data: readonly Endpoint[] }).data;
  const ours = all.filter(({ url }) => isSamePlace(url, place));
  const active = ours.filter((endpoint) => endpoint.status === 'enabled');
  if (ours.length === 0) {
    const others = all.length === 0 ? 'there is none' : `there are only ${listed(all.map(({ url }) => placeOf(url)))}`;
    return [
      fault(
        `no webhook endpoint of the account's ${live ? 'live' : 'test'} mode leads to ${place}: ${others}`,
        `add it (${WEBHOOKS_PAGE}) with the events of docs/operations.md, or correct PUBLIC_URL`,
      ),
    ];
  }
  if (active.length === 0) {
    return [fault(`the webhook endpoint ${ours[0]!.id} is ${ours[0]!.status}`, `enable it (${WEBHOOKS_PAGE})`)];
  }
  const findings: Finding[] = [];
  if (active.length > 1) {
    const ids = listed(active.map(({ id }) => id));
    const cure = 'delete one, or put the signing secrets of both into STRIPE_WEBHOOK_SECRETS';
    findings.push(
      warning(`${active.length} webhook endpoints lead to ${place} (${ids}), each with its own secret`, cure),
    );
  }
  const subscribed = new Set(active.flatMap(({ enabled_events: events }) => events));
  const missing = subscribed.has('*') ? [] : STRIPE_WEBHOOK_EVENTS.filter((event) => !subscribed.has(event));
  if (missing.length > 0) {
    const cure = `add them to ${active[0]!.id} (${WEBHOOKS_PAGE}); until then they are found late, by polling`;
    findings.push(fault(`the webhook endpoint does not send ${listed(missing)}`, cure));
  }
  return findings.length > 0 ? findings : [ok(`${active[0]!.id} sends every event that is needed to ${place}`)];
}

interface StripeEvent {
  readonly id: string;
  readonly type: string;
  /** Seconds. */
  readonly created: number;
}

/** Events that Stripe could not deliver and that did not arrive another way. */
async function eventFindings(call: Call, signal: AbortSignal, arrivals: Arrivals): Promise<Finding[]> {
  const since = Math.floor(Date.now() / 1000) - EVENTS_SECONDS;
  const query = new URLSearchParams({ limit: '100', delivery_success: 'false', 'created[gte]': String(since) });
  for (const [n, type] of STRIPE_WEBHOOK_EVENTS.entries()) query.append(`types[${n}]`, type);
  const { status, body } = await call(`/v1/events?${query.toString()}`, signal);
  if (status !== 200) return [warning(notAllowed(status), `allow the key Events: read (${KEYS_PAGE})`)];
  const undelivered = (body as { data: readonly StripeEvent[] }).data.map(({ id, type, created }) => ({
    ...{ id, type, at: new Date(created * 1000) },
  }));
  return [
    await arrivalFinding(undelivered, arrivals, {
      title: 'Stripe',
      secretVariable: 'STRIPE_WEBHOOK_SECRETS',
      where: `${WEBHOOKS_PAGE}, the endpoint, "Signing secret"`,
    }),
  ];
}

function unreachable(error: unknown, base: string): Finding {
  const { host } = new URL(base);
  return fault(`Stripe does not answer at ${host} (${wordsOf(error)})`, `see whether this machine reaches ${host}`);
}

const notAllowed = (status: number): string =>
  status === 403 ? 'the key may not ask for it' : `Stripe answers with ${status}`;

/** Without a query, which may hold a secret of somebody's. */
function placeOf(url: string): string {
  return URL.canParse(url) ? `${new URL(url).origin}${new URL(url).pathname}` : '(no address)';
}
