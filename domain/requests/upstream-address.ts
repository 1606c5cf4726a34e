/**
 * Where prompts and provider keys may go, by form: what an upstream's address looks like, what a key's variable is
 * called, and which hosts a pattern of the configuration names. Pure; whether a host is public, and what is configured,
 * is in providers/upstreams/settings.ts.
 */

/** The address of an upstream and the name of its key. */
export interface UpstreamAddress {
  /** Up to and including `/v1`. */
  readonly base_url: string;
  /** Name of the environment variable that holds the provider's key; null when none is sent. */
  readonly api_key_env: string | null;
  /** URL with `{request_id}`; null where there is no look-up. It is sent the key as well. */
  readonly lookup: string | null;
}

/** Ends the name of the variable that says to which hosts a key may go. */
export const HOSTS_SUFFIX = '_HOSTS';
const KEY_VARIABLE = /^UPSTREAM_(?:[A-Z0-9]+_)*KEY(?:_[A-Z0-9]+)*$/;
const KEY_VARIABLE_MAX = 100;

/**
 * Only variables of this form hold keys for upstreams: staff who may name one in the catalogue must not reach any other
 * secret.
 */
export function isKeyVariable(name: string): boolean {
  return name.length <= KEY_VARIABLE_MAX && KEY_VARIABLE.test(name) && !name.endsWith(HOSTS_SUFFIX);
}

/** `api.provider.com`, `*.provider.com`, `provider.com:8443`, `10.0.0.5:*`: one host, or all below it, at a port. */
export interface HostPattern {
  readonly host: string;
  readonly isSuffix: boolean;
  /** As in a URL: empty is the scheme's own; null is any. */
  readonly port: string | null;
}

/** Null where the text names no host. */
export function parseHostPattern(text: string): HostPattern | null {
  const isAnyPort = text.endsWith(':*');
  const isSuffix = text.startsWith('*.');
  const plain = text.slice(isSuffix ? 2 : 0, isAnyPort ? -2 : undefined);
  if (/[/?#@*\\\s]/.test(plain) || !URL.canParse(`https://${plain}`)) return null;
  const { hostname, port } = new URL(`https://${plain}`);
  // All hosts below a name of one label, like `*.com`, would be everybody's.
  if (isSuffix && !hostname.includes('.')) return null;
  return { host: hostname, isSuffix, port: isAnyPort ? null : port };
}

export function matchesHost({ host, isSuffix, port }: HostPattern, { hostname, port: given }: URL): boolean {
  if (port !== null && port !== given) return false;
  return isSuffix ? hostname.endsWith(`.${host}`) : hostname === host;
}

const REQUEST_ID = '{request_id}';
/** A secret in a query is logged by every proxy on its way; keys travel in a header. */
const SECRET_PARAMETER = /key|token|secret|passw|auth|sig|credential/i;

/** The fault in the form of an address, in words that follow its field name; null when there is none. */
export function faultOfAddress(text: string, field: 'base_url' | 'lookup'): string | null {
  if (!URL.canParse(text)) return 'must be an http or https URL';
  const url = new URL(text);
  if (url.protocol !== 'https:' && url.protocol !== 'http:') return 'must be an http or https URL';
  if (url.username !== '' || url.password !== '') return 'must not contain a user or password';
  if (text.includes('#')) return 'must not contain a fragment';
  if (field === 'base_url') return url.search === '' && !text.includes('?') ? null : 'must not contain a query';
  if (!text.includes(REQUEST_ID)) return `must contain ${REQUEST_ID}`;
  // The id is put in before the address is read: in the host it would choose where the key goes.
  if (new URL(text.replaceAll(REQUEST_ID, 'x')).host !== new URL(text.replaceAll(REQUEST_ID, 'y')).host) {
    return `must have ${REQUEST_ID} in its path or query`;
  }
  if ([...url.searchParams.keys()].some((name) => SECRET_PARAMETER.test(name))) {
    return 'must not contain a secret in its query';
  }
  return null;
}
