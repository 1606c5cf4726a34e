/** Addresses and CIDR ranges of an IP allowlist, read strictly and written in one form. */
import { isIP } from 'node:net';
import ipaddr from 'ipaddr.js';

export type IpRange = { readonly ok: true; readonly cidr: string } | { readonly ok: false; readonly problem: string };

/**
 * `10.0.0.7` → `10.0.0.7/32`, `2001:DB8::/32` → `2001:db8::/32`, `::ffff:10.0.0.7` → `10.0.0.7/32` (a connection is
 * compared in its IPv4 form). Bits set beyond the prefix are a mistake, not something to drop silently.
 */
export function parseIpRange(text: string): IpRange {
  const [address = '', prefix, ...rest] = text.split('/');
  if (rest.length > 0 || isIP(address) === 0 || address.includes('%')) {
    return { ok: false, problem: 'must be an IP address or a CIDR range' };
  }
  const parsed = ipaddr.parse(address);
  const size = parsed.kind() === 'ipv4' ? 32 : 128;
  const bits = prefix === undefined ? size : prefixLength(prefix, size);
  if (bits === null) return { ok: false, problem: `must have a prefix length from 0 to ${size}` };
  if (hasHostBits(parsed.toByteArray(), bits)) {
    return { ok: false, problem: `has bits set after the first ${bits}: it is an address, not a network` };
  }
  if (parsed instanceof ipaddr.IPv6 && parsed.isIPv4MappedAddress() && bits >= 96) {
    return { ok: true, cidr: `${parsed.toIPv4Address().toString()}/${bits - 96}` };
  }
  return { ok: true, cidr: `${parsed.toString()}/${bits}` };
}

function prefixLength(text: string, size: number): number | null {
  if (!/^(0|[1-9]\d{0,2})$/.test(text)) return null;
  const bits = Number(text);
  return bits <= size ? bits : null;
}

function hasHostBits(bytes: readonly number[], bits: number): boolean {
  return bytes.some((byte, index) => {
    const networkBits = Math.min(Math.max(bits - index * 8, 0), 8);
    return (byte & (0xff >> networkBits)) !== 0;
  });
}
