/**
 * The gateway's paths, and the slips with which base URLs are set. Slips that can mean one thing only are served
 * (`//v1/…`, a slash at the end, `/v1/v1/…`); others are answered 404 with the path that was meant.
 */
import { Refusal } from '../../../../domain/errors.ts';

export type GatewayMethod = 'GET' | 'POST';

/** Where models are asked: each belongs to one dialect. */
const INFERENCE = { '/v1/chat/completions': 'POST' } as const satisfies Record<string, GatewayMethod>;
const METHODS = {
  ...INFERENCE,
  '/v1/models': 'GET',
  '/v1/key': 'GET',
  '/v1/credits': 'GET',
  '/v1/generation': 'GET',
} as const satisfies Record<string, GatewayMethod>;

export type Endpoint = keyof typeof METHODS;
export type InferenceEndpoint = keyof typeof INFERENCE;

const MODEL_PREFIX = '/v1/models/';

/** Where a request goes. */
export type Destination =
  { readonly endpoint: Endpoint } | { readonly endpoint: '/v1/models/{id}'; readonly modelId: string };

/** Paths of the gateway (`/v1/…`, the same under `/api`), and those that only a client of the gateway would ask for. */
const OF_GATEWAY =
  /^(?:https?:\/\/[^/?#]*)?\/+(?:api\/+)?(?:v1(?:[/?#]|$)|openai\/|v1beta\/|engines\/|chat\/+completions|completions|responses|embeddings)/i;

/** True for the requests that the gateway answers. */
export function isGatewayPath(url: string): boolean {
  return OF_GATEWAY.test(url);
}

/** The path and the query of a request target, which a proxy may send with scheme and host. */
export function splitTarget(target: string): { path: string; query: URLSearchParams } {
  const local = target.replace(/^https?:\/\/[^/?#]*/i, '');
  const url = URL.parse(`http://gateway${local.startsWith('/') ? '' : '/'}${local}`);
  return { path: url?.pathname ?? '/', query: url?.searchParams ?? new URLSearchParams() };
}

/** Where a path goes; null when there is nothing. */
export function findDestination(path: string): Destination | null {
  const plain = path
    .replace(/\/{2,}/g, '/')
    .replace(/^(?:\/api)?\/v1(?=\/|$)(?:(?:\/api)?\/v1(?=\/|$))*/, '/v1')
    .replace(/(?<=.)\/$/, '');
  if (isEndpoint(plain)) return { endpoint: plain };
  if (!plain.startsWith(MODEL_PREFIX)) return null;
  return { endpoint: '/v1/models/{id}', modelId: decoded(plain.slice(MODEL_PREFIX.length)) };
}

export function isInference(destination: Destination): destination is { readonly endpoint: InferenceEndpoint } {
  return Object.hasOwn(INFERENCE, destination.endpoint);
}

export function methodOf({ endpoint }: Destination): GatewayMethod {
  return endpoint === '/v1/models/{id}' ? 'GET' : METHODS[endpoint];
}

const ALL_ENDPOINTS = Object.entries({ ...METHODS, '/v1/models/{id}': 'GET' })
  .map(([path, method]) => `${method} ${path}`)
  .join(', ');

/** Long enough for every path that is a slip. */
const SHOWN_PATH_MAX_CHARACTERS = 200;

/** The refusal of a path that leads nowhere: it names what was meant, or what there is. */
export function nothingAt(method: string, path: string): Refusal {
  const what = `There is nothing at ${method} ${path.slice(0, SHOWN_PATH_MAX_CHARACTERS)}.`;
  const meant = endpointMeant(path);
  const hint =
    meant === null
      ? `This API has: ${ALL_ENDPOINTS}.`
      : `Did you mean ${METHODS[meant]} ${meant}? The base URL of this API ends in "/v1", and clients add the rest.`;
  return new Refusal('not_found', { message: `${what} ${hint}` });
}

function endpointMeant(path: string): Endpoint | null {
  if (/chat\/+completions/i.test(path)) return '/v1/chat/completions';
  return /\/models\/*$/i.test(path) ? '/v1/models' : null;
}

function isEndpoint(path: string): path is Endpoint {
  return Object.hasOwn(METHODS, path);
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
