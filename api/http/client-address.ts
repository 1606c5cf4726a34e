/**
 * The address of the client. Forwarded headers count only from trusted proxies, and only up to the rightmost hop that
 * is not one of them: everything left of it was written by somebody we do not know.
 */
import type { IncomingMessage } from 'node:http';
import ipaddr from 'ipaddr.js';

export type ClientAddress = (request: IncomingMessage) => string;

/** Whether an address is one of the trusted proxies'. */
export function trustedProxyTest(trustedProxies: readonly string[]): (address: string) => boolean {
  const ranges = trustedProxies.map((range) => ipaddr.parseCIDR(range));
  return (address) => {
    if (!ipaddr.isValid(address)) return false;
    const parsed = ipaddr.process(address);
    return ranges.some(([range, bits]) => parsed.kind() === range.kind() && parsed.match(range, bits));
  };
}

export function clientAddressReader(trustedProxies: readonly string[]): ClientAddress {
  const isTrusted = trustedProxyTest(trustedProxies);
  return (request) => {
    const peer = request.socket.remoteAddress ?? '';
    if (!isTrusted(peer)) return peer;
    const hops = String(request.headers['x-forwarded-for'] ?? '')
      .split(',')
      .map((hop) => hop.trim())
      .filter((hop) => hop !== '');
    return hops.findLast((hop) => !isTrusted(hop)) ?? peer;
  };
}
