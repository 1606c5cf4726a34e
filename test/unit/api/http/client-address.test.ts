/**
 * The client's address: forwarded headers count only from trusted proxies, and there the rightmost hop that is not one.
 */
import assert from 'node:assert/strict';
import type { IncomingMessage } from 'node:http';
import { clientAddressReader } from '../../../../api/http/client-address.ts';

function addressOf(trusted: readonly string[], peer: string | undefined, forwarded?: string): string {
  const headers = forwarded === undefined ? {} : { 'x-forwarded-for': forwarded };
  return clientAddressReader(trusted)({ socket: { remoteAddress: peer }, headers } as unknown as IncomingMessage);
}

describe('gateway: the address of a client', () => {
  const PROXIES = ['10.0.0.0/8', 'fd00::/8'];

  for (const [name, trusted, peer, forwarded, expected] of [
    ['is the peer when no proxy is trusted, whatever it says', [], '192.0.2.1', '203.0.113.9', '192.0.2.1'],
    ['is the peer when the peer is no trusted proxy', PROXIES, '192.0.2.1', '203.0.113.9', '192.0.2.1'],
    ['is what a trusted proxy says', PROXIES, '10.0.0.1', '203.0.113.9', '203.0.113.9'],
    [
      'is the hop that the outermost trusted proxy saw',
      PROXIES,
      '10.0.0.1',
      '1.1.1.1, 203.0.113.9, 10.9.9.9',
      '203.0.113.9',
    ],
    ['is not what a client wrote left of its own address', PROXIES, '10.0.0.1', '127.0.0.1,203.0.113.9', '203.0.113.9'],
    ['is found behind a proxy with an IPv4-mapped address', PROXIES, '::ffff:10.0.0.1', '203.0.113.9', '203.0.113.9'],
    ['is found behind a proxy of the other family', PROXIES, 'fd00::1', '2001:db8::1', '2001:db8::1'],
    ['is the proxy when it says nothing', PROXIES, '10.0.0.1', undefined, '10.0.0.1'],
    ['is the proxy when it says nothing but blanks and commas', PROXIES, '10.0.0.1', ' , ,', '10.0.0.1'],
    ['is the proxy when every hop is one', PROXIES, '10.0.0.1', '10.0.0.3, 10.0.0.2', '10.0.0.1'],
    [
      'is text that is no address where a proxy says so, which no allowlist contains',
      PROXIES,
      '10.0.0.1',
      'unknown',
      'unknown',
    ],
    [
      'is never taken from a hop behind text that is no address',
      PROXIES,
      '10.0.0.1',
      '203.0.113.9, unknown',
      'unknown',
    ],
    ['is empty when the connection is gone, which no allowlist contains', PROXIES, undefined, '203.0.113.9', ''],
  ] as const) {
    it(name, () => {
      assert.equal(addressOf(trusted, peer, forwarded), expected);
    });
  }
});
