/** The one form of addresses and ranges in an IP allowlist. */
import assert from 'node:assert/strict';
import { parseIpRange } from '../../../../api/http/ip-range.ts';

describe('IP ranges', () => {
  const read: [string, string][] = [
    ['10.0.0.7', '10.0.0.7/32'],
    ['10.0.0.0/8', '10.0.0.0/8'],
    ['0.0.0.0/0', '0.0.0.0/0'],
    ['255.255.255.255/32', '255.255.255.255/32'],
    ['2001:DB8::1', '2001:db8::1/128'],
    ['2001:0db8:0000::/32', '2001:db8::/32'],
    ['::/0', '::/0'],
    ['::1/128', '::1/128'],
    ['::ffff:10.0.0.7', '10.0.0.7/32'],
    ['::ffff:10.0.0.0/104', '10.0.0.0/8'],
    ['192.168.0.128/25', '192.168.0.128/25'],
  ];
  for (const [text, cidr] of read) {
    it(`${text} is ${cidr}`, () => assert.deepEqual(parseIpRange(text), { ok: true, cidr }));
  }

  const refused = [
    '',
    ' 10.0.0.1',
    '10.0.0',
    '010.0.0.1',
    '0x0a.0.0.1',
    '167772161',
    '10.0.0.256',
    '10.0.0.0/33',
    '10.0.0.0/08',
    '10.0.0.0/-1',
    '10.0.0.0/',
    '10.0.0.0/8/8',
    '10.0.0.1/8',
    '10.0.0.0/255.0.0.0',
    '192.168.0.64/25',
    '2001:db8::1/32',
    'fe80::1%eth0',
    ':::',
    '::/129',
    'localhost',
    '10.0.0.0–10.0.0.9',
  ];
  for (const text of refused) {
    it(`"${text}" is refused`, () => assert.equal(parseIpRange(text).ok, false));
  }

  it('a range with host bits is refused with their position instead of losing them', () => {
    const range = parseIpRange('10.0.0.1/8');
    assert.ok(!range.ok);
    assert.match(range.problem, /bits set after the first 8/);
  });
});
