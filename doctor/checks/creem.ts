/**
 * Creem: the key, the product that is sold, the clock, the webhook endpoint and its signing secret, which Creem tells.
 */
import { CREEM_LIVE_MODE, type CreemSettings } from '../../providers/creem/settings.ts';
import { fault, listed, ok, warning, wordsOf, type Check, type Finding } from '../check.ts';
import { ask, type HttpAnswer } from '../http.ts';
import { clockFinding } from './clock.ts';
import { endpointPlace, isSamePlace } from './webhook-place.ts';

const CREEM_URL = { live: 'https://api.creem.io', test: 'https://test-api.creem.io' };
/** The events about payments; all other events of Creem are about subscriptions. */
const EVENTS = ['checkout.completed', 'refund.created', 'dispute.created'];
const KEYS_PAGE = 'Creem dashboard, Developers, API keys';
const WEBHOOKS_PAGE = 'Creem dashboard, Developers, Webhooks';

type Call = (path: string, signal: AbortSignal) => Promise<HttpAnswer>;

export function creemChecks(settings: CreemSettings, publicUrl: string): Check[] {
  const base = (settings.apiUrl ?? (settings.live ? CREEM_URL.live : CREEM_URL.test)).replace(/\/+$/, '');
  const call: Call = (path, signal) => ask(`${base}${path}`, { signal, headers: { 'x-api-key': settings.apiKey } });
  const { host } = new URL(base);
  const silentCure = `see whether this machine reaches ${host} (proxy, firewall, DNS)`;
  const answering = (run: (signal: AbortSignal) => Promise<Finding[]>) => async (signal: AbortSignal) => {
    try {
      return await run(signal);
    } catch (error) {
      return [fault(`Creem does not answer at ${host} (${wordsOf(error)})`, silentCure)];
    }
  };
  return [
    { name: 'creem key', run: answering((signal) => keyFindings(call, signal, settings)), silentCure },
    { name: 'creem clock', run: answering((signal) => clockFindings(call, signal, settings)), silentCure },
    {
      name: 'creem webhook',
      run: answering((signal) => webhookFindings(call, signal, settings, publicUrl)),
      silentCure,
    },
  ];
}

interface Product {
  readonly mode: string;
  readonly billing_type: string;
  readonly currency: string;
  readonly status: string;
}

async function keyFindings(call: Call, signal: AbortSignal, { productId, live }: CreemSettings): Promise<Finding[]> {
  const { status, body } = await call(`/v1/products/${productId}`, signal);
  const mode = live ? 'live' : 'test';
  if (status === 401 || status === 403) {
    return [
      fault(
        `Creem refuses CREEM_API_KEY in ${mode} mode`,
        `set a key of ${mode} mode (${KEYS_PAGE}) or correct CREEM_MODE`,
      ),
    ];
  }
  if (status === 404) {
    const cure = 'make a one-time product in USD in the Creem dashboard and set its id';
    return [fault(`Creem has no product ${productId} (CREEM_PRODUCT_ID) in ${mode} mode`, cure)];
  }
  if (status !== 200) return [warning(`Creem answers with ${status} for now`, 'run the doctor again in some minutes')];
  const product = body as Product;
  const wrong = [
    ...(product.billing_type === 'onetime' ? [] : [`is ${product.billing_type}, not one-time`]),
    ...(product.currency.toUpperCase() === 'USD' ? [] : [`is sold in ${product.currency}, not in USD`]),
    ...(product.status === 'active' ? [] : [`is ${product.status}`]),
    ...((product.mode === CREEM_LIVE_MODE) === live ? [] : [`is of ${product.mode} mode`]),
  ];
  if (wrong.length > 0) {
    const cure = 'make another product in the Creem dashboard and set CREEM_PRODUCT_ID to it';
    return [fault(`the product ${productId} ${listed(wrong)}`, cure)];
  }
  return [ok(`${mode} mode, product ${productId} is a one-time one in USD`)];
}

async function clockFindings(call: Call, signal: AbortSignal, { productId }: CreemSettings): Promise<Finding[]> {
  return [clockFinding((await call(`/v1/products/${productId}`, signal)).aheadSeconds, 'Creem')];
}

interface Webhook {
  readonly id: string;
  readonly url: string;
  readonly status: string;
  readonly delivery_mode?: string;
  readonly events: readonly string[];
}

async function webhookFindings(
  call: Call,
  signal: AbortSignal,
  { webhookSecrets }: CreemSettings,
  publicUrl: string,
): Promise<Finding[]> {
  const place = endpointPlace(publicUrl, 'creem');
  const { status, body } = await call('/v1/webhooks?page_number=1&page_size=100', signal);
  if (status !== 200) {
    return [warning(`Creem does not list webhooks (${status})`, `look at them by hand (${WEBHOOKS_PAGE})`)];
  }
  const ours = (body as { items: readonly Webhook[] }).items.filter(({ url }) => isSamePlace(url, place));
  const active = ours.find((webhook) => webhook.status === 'enabled' && webhook.delivery_mode !== 'cli');
  if (active === undefined) {
    return ours[0] === undefined
      ? [fault(`no webhook of Creem leads to ${place}`, `add it (${WEBHOOKS_PAGE}), or correct PUBLIC_URL`)]
      : [fault(`the webhook ${ours[0].id} is ${ours[0].status}`, `enable it (${WEBHOOKS_PAGE})`)];
  }
  const findings: Finding[] = [];
  // None named: all are sent.
  const missing = active.events.length === 0 ? [] : EVENTS.filter((event) => !active.events.includes(event));
  if (missing.length > 0) {
    findings.push(fault(`the webhook ${active.id} does not send ${listed(missing)}`, `add them (${WEBHOOKS_PAGE})`));
  }
  const answer = await call(`/v1/webhooks/${active.id}/secret`, signal);
  const secret = (answer.body as { secret?: unknown } | null)?.secret;
  if (answer.status !== 200 || typeof secret !== 'string') {
    const cure = `compare it by hand (${WEBHOOKS_PAGE})`;
    findings.push(warning(`Creem does not tell the signing secret of ${active.id} (${answer.status})`, cure));
  } else if (!webhookSecrets.includes(secret)) {
    findings.push(
      fault(
        `CREEM_WEBHOOK_SECRETS does not hold the signing secret of ${active.id}: every event is refused`,
        `copy it (${WEBHOOKS_PAGE}), then restart the api`,
      ),
    );
  }
  return findings.length > 0
    ? findings
    : [ok(`${active.id} sends every event that is needed to ${place}, signed by a known secret`)];
}
