/**
 * Ids: the wire form and the UUID inside it are the same id, a prefix never passes for another, and ids sort by
 * the millisecond in which they were made.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { formatId, parseId, uuidOf, uuidTime, type IdKind } from '../../../domain/ids.ts';

/** The public prefixes. They are part of the interface: customers store ids. */
const PREFIXES: Readonly<Record<IdKind, string>> = {
  request: 'req',
  account: 'acct',
  key: 'key',
  posting: 'pst',
  topUp: 'top',
  payment: 'pay',
  reversal: 'rev',
  voucher: 'vch',
  voucherBatch: 'vbt',
  accrual: 'acr',
  correction: 'cor',
  review: 'rvw',
  approval: 'apr',
  case: 'case',
  refund: 'rfd',
  adjustment: 'adj',
  token: 'tok',
  notice: 'ntc',
  action: 'act',
  reward: 'rwd',
  bounty: 'bty',
  rescan: 'rsc',
  manualCredit: 'hcr',
  change: 'chg',
};
const KINDS = Object.keys(PREFIXES) as IdKind[];

const EXAMPLE = '017f22e2-79b0-7cc3-98c4-dc0c0c07398f';
const EXAMPLE_HEX = '017f22e279b07cc398c4dc0c0c07398f';

const uuids = fc.uuid({ version: 7 });

/** A UUIDv7 of a known millisecond (RFC 9562 §5.7), the rest of its bits as given. */
function uuidAt(ms: number, randomHex: string): string {
  const time = ms.toString(16).padStart(12, '0');
  return `${time.slice(0, 8)}-${time.slice(8)}-7${randomHex.slice(0, 3)}-8${randomHex.slice(3, 6)}-${randomHex.slice(6)}`;
}

const milliseconds = fc.integer({ min: 0, max: 2 ** 48 - 1 });
const randomHex = fc.string({ unit: fc.constantFrom(...'0123456789abcdef'), minLength: 18, maxLength: 18 });

describe('ids', () => {
  for (const kind of KINDS) {
    const prefix = PREFIXES[kind];

    it(`${kind}: ${prefix}_ and 32 hex digits, and back to the same UUID`, () => {
      assert.equal(formatId(kind, uuidOf(kind, EXAMPLE)), `${prefix}_${EXAMPLE_HEX}`);
      fc.assert(
        fc.property(uuids, (text) => {
          const uuid = uuidOf(kind, text);
          assert.equal(parseId(kind, formatId(kind, uuid)), uuid);
        }),
      );
    });

    it(`${kind}: the id of any other kind is not one`, () => {
      for (const other of KINDS) {
        const id = formatId(other, uuidOf(other, EXAMPLE));
        assert.equal(parseId(kind, id), other === kind ? EXAMPLE : null, id);
      }
    });
  }

  it('no two kinds share a prefix', () => {
    assert.equal(new Set(Object.values(PREFIXES)).size, KINDS.length);
  });

  const notIds: readonly [text: string, why: string][] = [
    ['', 'empty'],
    ['req', 'prefix alone'],
    ['req_', 'no digits'],
    [EXAMPLE, 'a bare UUID'],
    [EXAMPLE_HEX, 'no prefix'],
    [`req${EXAMPLE_HEX}`, 'no separator'],
    [`req-${EXAMPLE_HEX}`, 'another separator'],
    [`_${EXAMPLE_HEX}`, 'empty prefix'],
    [`REQ_${EXAMPLE_HEX}`, 'prefix in capitals'],
    [`req_${EXAMPLE_HEX.toUpperCase()}`, 'digits in capitals'],
    [`req_${EXAMPLE}`, 'hyphens'],
    [`req_${EXAMPLE_HEX.slice(1)}`, '31 digits'],
    [`req_${EXAMPLE_HEX}0`, '33 digits'],
    [`req_${EXAMPLE_HEX.slice(1)}g`, 'not a hex digit'],
    [` req_${EXAMPLE_HEX}`, 'leading blank'],
    [`req_${EXAMPLE_HEX}\n`, 'trailing line end'],
    [`req_req_${EXAMPLE_HEX}`, 'prefix twice'],
    [`xreq_${EXAMPLE_HEX}`, 'something before the prefix'],
    ["req_' or 1=1 --", 'SQL'],
  ];
  for (const [text, why] of notIds) {
    it(`${JSON.stringify(text)} is not a request id (${why})`, () => {
      assert.equal(parseId('request', text), null);
    });
  }

  it('any other text is refused, or is the one printed form of its UUID', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.string().map((text) => `req_${text}`),
        ),
        (text) => {
          const uuid = parseId('request', text);
          if (uuid !== null) assert.equal(formatId('request', uuid), text);
        },
      ),
    );
  });

  for (const text of [
    '',
    'req_1',
    EXAMPLE_HEX,
    EXAMPLE.toUpperCase(),
    `${EXAMPLE}\n`,
    `{${EXAMPLE}}`,
    EXAMPLE.slice(1),
  ]) {
    it(`${JSON.stringify(text)} as a UUID of our own is a bug`, () => {
      assert.throws(() => uuidOf('request', text), /invariant broken/);
    });
  }

  it('plain text, or the id of another kind, does not compile where an id is asked', () => {
    // @ts-expect-error text is not yet a UUID of ours
    assert.equal(formatId('key', EXAMPLE), `key_${EXAMPLE_HEX}`);
    // @ts-expect-error an account is not a key
    assert.equal(formatId('key', uuidOf('account', EXAMPLE)), `key_${EXAMPLE_HEX}`);
  });

  it("the time inside is the one of RFC 9562's example", () => {
    assert.equal(uuidTime(EXAMPLE).toISOString(), '2022-02-22T19:22:22.000Z');
  });

  it('the time inside is exact to the millisecond, over all 48 bits', () => {
    fc.assert(
      fc.property(milliseconds, randomHex, (ms, random) => {
        assert.equal(uuidTime(uuidAt(ms, random)).getTime(), ms);
      }),
    );
  });

  it('wire ids sort by the millisecond in which they were made', () => {
    fc.assert(
      fc.property(milliseconds, milliseconds, randomHex, randomHex, (a, b, randomA, randomB) => {
        fc.pre(a < b);
        const earlier = formatId('request', uuidOf('request', uuidAt(a, randomA)));
        const later = formatId('request', uuidOf('request', uuidAt(b, randomB)));
        assert.ok(earlier < later);
      }),
    );
  });
});
