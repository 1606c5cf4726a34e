/**
 * Which upstreams may be called and with which key, for api (gateway, catalogue) and worker (look-ups): addresses are
 * https and public unless the configuration names the host, and a key goes only to the hosts that the configuration
 * binds it to. Asked when a model is made and again at each call, because the catalogue outlives the configuration;
 * names are resolved under the same rule.
 *
 *   UPSTREAM_<…>KEY<…>        a provider's key
 *   UPSTREAM_<…>KEY<…>_HOSTS  the hosts it may be sent to
 *   UPSTREAM_PRIVATE_HOSTS    hosts that may be private, or without TLS
 */
import { lookup as resolve, type LookupAddress } from 'node:dns';
import type { LookupFunction } from 'node:net';
import ipaddr from 'ipaddr.js';
import {
  faultOfAddress,
  HOSTS_SUFFIX,
  isKeyVariable,
  matchesHost,
  parseHostPattern,
  type HostPattern,
  type UpstreamAddress,
} from '../../domain/requests/upstream-address.ts';
import { ConfigError, invalidEnvironment, type Environment } from '../../runtime/environment.ts';

const PRIVATE_HOSTS = 'UPSTREAM_PRIVATE_HOSTS';

/** The faults of an upstream, by field. */
export interface UpstreamFault {
  readonly field: 'base_url' | 'api_key_env' | 'lookup';
  /** Reads well after the field's name. Never a secret. */
  readonly message: string;
}

/** An upstream that the configuration does not let be called. Nothing has been sent. */
export class UpstreamNotAllowed extends Error {
  /** As network errors have one: callers tell by it that nothing was sent. */
  readonly code = 'ERR_UPSTREAM_NOT_ALLOWED';
  constructor({ field, message }: UpstreamFault) {
    super(`the upstream may not be called: ${field} ${message}`);
  }
}

export interface UpstreamRules {
  /** Null when it may be called. */
  faultOf(upstream: UpstreamAddress): UpstreamFault | null;
  /** The key to send to an upstream that may be called; null where it wants none. */
  keyOf(upstream: UpstreamAddress): string | null;
  /**
   * For `net.connect`: resolves a name, and fails where it leads to an address that is not public and not configured.
   */
  readonly lookup: LookupFunction;
}

/** Reads the rules; throws a ConfigError that names every bad variable. */
export function upstreamRules(environment: Environment): UpstreamRules {
  const faults: string[] = [];
  const patternsOf = (name: string): HostPattern[] => {
    const items = (environment[name] ?? '').split(',').map((item) => item.trim());
    return items.flatMap((item) => {
      if (item === '') return [];
      const pattern = parseHostPattern(item);
      if (pattern !== null) return [pattern];
      faults.push(`${name}: must be hosts like api.provider.com, *.provider.com or 10.0.0.5:8080, separated by commas`);
      return [];
    });
  };
  const privateHosts = patternsOf(PRIVATE_HOSTS);
  const hostsOfKey = new Map<string, readonly HostPattern[]>();
  for (const name of Object.keys(environment)) {
    const key = name.slice(0, -HOSTS_SUFFIX.length);
    if (name.endsWith(HOSTS_SUFFIX) && isKeyVariable(key)) hostsOfKey.set(key, patternsOf(name));
  }
  if (faults.length > 0) throw new ConfigError(invalidEnvironment([...new Set(faults)]));

  const isPrivateHost = (url: URL): boolean => privateHosts.some((pattern) => matchesHost(pattern, url));

  function faultOfPlace(text: string, field: 'base_url' | 'lookup'): string | null {
    const fault = faultOfAddress(text, field);
    if (fault !== null) return fault;
    const url = new URL(text);
    if (isPrivateHost(url)) return null;
    if (url.protocol !== 'https:') return `must be https; ${PRIVATE_HOSTS} may name hosts without it`;
    if (!isPublicHost(url.hostname)) return `must be a public address; ${PRIVATE_HOSTS} may name others`;
    return null;
  }

  /** Null when the variable is unset, or holds what no header can carry. */
  function keyIn(name: string): string | null {
    const key = environment[name]?.trim() ?? '';
    return /^[\x21-\x7e]+$/.test(key) ? key : null;
  }

  function faultOfKey(name: string, places: readonly string[]): string | null {
    if (!isKeyVariable(name)) return 'must be the name of a variable like UPSTREAM_PROVIDER_KEY';
    if (keyIn(name) === null) return `names the variable ${name}, which holds no usable key`;
    const hosts = hostsOfKey.get(name) ?? [];
    const stranger = places.find((place) => !hosts.some((pattern) => matchesHost(pattern, new URL(place))));
    if (stranger === undefined) return null;
    return `may not be sent to ${new URL(stranger).host}: ${name}${HOSTS_SUFFIX} does not name it`;
  }

  function findFault({ base_url: baseUrl, api_key_env: key, lookup }: UpstreamAddress): UpstreamFault | null {
    const ofBase = faultOfPlace(baseUrl, 'base_url');
    if (ofBase !== null) return { field: 'base_url', message: ofBase };
    const ofLookup = lookup === null ? null : faultOfPlace(lookup, 'lookup');
    if (ofLookup !== null) return { field: 'lookup', message: ofLookup };
    const ofKey = key === null ? null : faultOfKey(key, lookup === null ? [baseUrl] : [baseUrl, lookup]);
    return ofKey === null ? null : { field: 'api_key_env', message: ofKey };
  }

  /** The catalogue's objects live as long as its last refresh, and calls are many. */
  const known = new WeakMap<UpstreamAddress, UpstreamFault | null>();

  return {
    faultOf(upstream) {
      const before = known.get(upstream);
      if (before !== undefined) return before;
      const fault = findFault(upstream);
      known.set(upstream, fault);
      return fault;
    },
    keyOf: ({ api_key_env: name }) => (name === null ? null : keyIn(name)),
    lookup: (hostname, options, callback) => {
      resolve(hostname, { ...options, all: true }, (error, addresses) => {
        const refused = error === null ? faultOfAddresses(hostname, addresses) : error;
        const [first] = addresses ?? [];
        if (refused !== null || first === undefined) callback(refused ?? notFound(hostname), []);
        else if (options.all === true) callback(null, addresses);
        else callback(null, first.address, first.family);
      });
    },
  };

  /**
   * A name that leads to one address that is not public is refused as a whole: the next look-up may give only that one.
   */
  function faultOfAddresses(hostname: string, addresses: readonly LookupAddress[]): UpstreamNotAllowed | null {
    // The port is not known here; a configured host is known by its name.
    const place = new URL(`https://${hostname}`);
    const isConfigured = privateHosts.some((pattern) => matchesHost({ ...pattern, port: null }, place));
    if (isConfigured || addresses.every(({ address }) => isPublicAddress(address))) return null;
    return new UpstreamNotAllowed({
      field: 'base_url',
      message: `leads to an address that is not public (${hostname})`,
    });
  }
}

function notFound(hostname: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`no address of ${hostname}`), { code: 'ENOTFOUND' });
}

/** Names that never leave the machine or its network. */
const LOCAL_NAME = /(^|\.)(localhost|local|internal|intranet|lan|home|corp|private|arpa)\.?$/;

/** By its form: an address must be a public one, a name must have a dot and no ending of local networks. */
function isPublicHost(hostname: string): boolean {
  const address = hostname.replace(/^\[|\]$/g, '');
  if (ipaddr.isValid(address)) return isPublicAddress(address);
  return hostname.includes('.') && !LOCAL_NAME.test(hostname);
}

/**
 * An old form of IPv6 addresses with an IPv4 address inside, which the library takes for public; it knows the others.
 */
const IPV4_COMPATIBLE = ipaddr.parseCIDR('::/96');

/**
 * Public by its range, and yet a service of the cloud to each of its machines: Azure's, with secrets of the machine.
 */
const SERVICE_OF_THE_HOST = '168.63.129.16';

function isPublicAddress(text: string): boolean {
  if (!ipaddr.isValid(text)) return false;
  const address = ipaddr.process(text);
  if (address.toString() === SERVICE_OF_THE_HOST) return false;
  if (address.kind() === 'ipv6' && address.match(IPV4_COMPATIBLE)) return false;
  return address.range() === 'unicast';
}
