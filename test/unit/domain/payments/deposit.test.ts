/**
 * Deposits: what is believed of a transfer after all vendors were asked. The properties at the end say what no set of
 * answers may lead to: nothing moves on the word of one vendor, for any view it shows.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import {
  confirmationsAt,
  depositPaymentId,
  decideDeposit,
  pegFaultOf,
  parseSpendableRule,
  spendableRuleText,
  usdOfUnits,
  withFinality,
  type BlockRef,
  type ChainHead,
  type DepositRecord,
  type DepositState,
  type FeedRound,
  type SpendablePolicy,
  type Transfer,
  type VendorView,
} from '../../../../domain/payments/deposit.ts';
import { usd } from '../../../../domain/money.ts';

const TRANSFER: Transfer = { token: '0xcc', from: '0xbb', to: '0xaa', units: 10_000_000n };
const OTHER: Transfer = { ...TRANSFER, units: 99_000_000n };

const block = (height: number, fork = 0): BlockRef => ({
  height,
  hash: `0x${fork}-${height}`,
  time: 1000 + height * 12,
});

const head = (height: number, given: Partial<ChainHead> = {}): ChainHead => ({
  latest: block(height),
  safe: null,
  finalized: null,
  ...given,
});

/** Twelve blocks below 50 dollars, finality above. */
const POLICY: SpendablePolicy = {
  smallBelow: usd('50'),
  small: { kind: 'blocks', blocks: 12 },
  large: { kind: 'finalized' },
};

const AT = block(100);

function record(state: DepositState = 'seen', amount = '10'): DepositRecord {
  return { state, block: AT, transfer: TRANSFER, amount: usd(amount) };
}

function shown(at: ChainHead, where: BlockRef = AT, transfer: Transfer = TRANSFER): VendorView {
  return { kind: 'shown', block: where, transfer, head: at };
}

const ABSENT: VendorView = { kind: 'absent' };
const SILENT: VendorView = { kind: 'silent' };
const FRESH = shown(head(100));
const DEEP = shown(head(111));
const FINAL = shown(head(140, { safe: 120, finalized: 100 }));
const MOVED = shown(head(120), block(105, 1));

describe('a deposit', () => {
  const cases: readonly {
    name: string;
    from?: DepositState;
    amount?: string;
    policy?: Partial<SpendablePolicy>;
    views: readonly VendorView[];
    becomes: DepositState;
    in?: BlockRef;
    disputed?: true;
    violated?: true;
  }[] = [
    { name: 'in the newest block is seen', views: [FRESH, FRESH], becomes: 'seen' },
    { name: 'with eleven confirmations waits', views: [shown(head(110)), shown(head(110))], becomes: 'seen' },
    { name: 'with the twelfth at two vendors is spendable', views: [DEEP, DEEP], becomes: 'spendable' },
    { name: 'with the twelfth at one vendor only waits', views: [DEEP, shown(head(110))], becomes: 'seen' },
    { name: 'over the limit waits for finality', amount: '50', views: [DEEP, DEEP], becomes: 'seen' },
    { name: 'over the limit is final when two say so', amount: '50', views: [FINAL, FINAL], becomes: 'final' },
    { name: 'that one vendor calls final is only spendable', views: [FINAL, DEEP], becomes: 'spendable' },
    {
      name: 'can wait for the safe block',
      policy: { small: { kind: 'safe' } },
      views: [shown(head(130, { safe: 100 })), shown(head(130, { safe: 100 }))],
      becomes: 'spendable',
    },
    {
      name: 'above the safe block waits for it',
      policy: { small: { kind: 'safe' } },
      views: [shown(head(130, { safe: 99 })), shown(head(130, { safe: 100 }))],
      becomes: 'seen',
    },
    {
      name: 'can wait by the time of the chain',
      policy: { small: { kind: 'seconds', seconds: 24 } },
      views: [shown(head(102)), shown(head(102))],
      becomes: 'spendable',
    },
    {
      name: 'has not waited long enough by the time of the chain',
      policy: { small: { kind: 'seconds', seconds: 25 } },
      views: [shown(head(102)), shown(head(102))],
      becomes: 'seen',
    },
    { name: 'does not fall back because a head lags', from: 'spendable', views: [FRESH, FRESH], becomes: 'spendable' },
    {
      name: 'that one vendor lacks and one shows is disputed',
      views: [DEEP, ABSENT],
      becomes: 'seen',
      disputed: true,
    },
    { name: 'that one vendor shows and one says nothing of waits', views: [DEEP, SILENT], becomes: 'seen' },
    {
      name: 'that nobody says anything of stays',
      from: 'spendable',
      views: [SILENT, SILENT],
      becomes: 'spendable',
    },
    { name: 'that two vendors lack is gone', views: [ABSENT, ABSENT], becomes: 'undone' },
    { name: 'that was spendable and two lack is gone', from: 'spendable', views: [ABSENT, ABSENT], becomes: 'undone' },
    { name: 'that one vendor lacks is not gone', from: 'spendable', views: [ABSENT, SILENT], becomes: 'spendable' },
    { name: 'with a liar among three is believed', views: [DEEP, DEEP, ABSENT], becomes: 'spendable' },
    { name: 'that a liar among three invents is gone', views: [DEEP, ABSENT, ABSENT], becomes: 'undone' },
    {
      name: 'of which two and two say opposite things stays',
      views: [DEEP, DEEP, ABSENT, ABSENT],
      becomes: 'seen',
      disputed: true,
    },
    {
      name: 'that moved to another block starts again',
      views: [shown(head(110), block(105, 1)), shown(head(110), block(105, 1))],
      becomes: 'seen',
      in: block(105, 1),
    },
    {
      name: 'that moved long ago is spendable at once',
      views: [MOVED, MOVED],
      becomes: 'spendable',
      in: block(105, 1),
    },
    {
      name: 'that was spendable starts again where it moved to',
      from: 'spendable',
      views: [shown(head(105), block(105, 1)), shown(head(105), block(105, 1))],
      becomes: 'seen',
      in: block(105, 1),
    },
    { name: 'that moved at one vendor only stays', views: [MOVED, DEEP], becomes: 'seen', disputed: true },
    {
      name: 'that was gone comes back',
      from: 'undone',
      views: [MOVED, MOVED],
      becomes: 'spendable',
      in: block(105, 1),
    },
    {
      name: 'that was final and is gone is an alarm',
      from: 'final',
      views: [ABSENT, ABSENT],
      becomes: 'undone',
      violated: true,
    },
    {
      name: 'that was final and moved is an alarm',
      from: 'final',
      views: [MOVED, MOVED],
      becomes: 'spendable',
      in: block(105, 1),
      violated: true,
    },
    {
      name: 'that was final stays so on the word of one',
      from: 'final',
      views: [ABSENT, FINAL],
      becomes: 'final',
      disputed: true,
    },
  ];

  for (const { name, from = 'seen', amount, policy = {}, views, becomes, in: where = AT, ...flags } of cases) {
    it(name, () => {
      const verdict = decideDeposit(record(from, amount), views, { ...POLICY, ...policy });
      assert.equal(verdict.state, becomes);
      assert.equal(verdict.block.hash, where.hash);
      assert.equal(verdict.isDisputed, flags.disputed ?? false);
      assert.equal(verdict.isFinalityViolated, flags.violated ?? false);
    });
  }

  it('a deposit of which one vendor shows another sum is the one that two agree on', () => {
    const liar = shown(head(111), AT, OTHER);
    assert.equal(decideDeposit({ ...record(), transfer: OTHER }, [liar, DEEP], POLICY).isDisputed, true);
    const verdict = decideDeposit({ ...record(), transfer: OTHER }, [liar, DEEP, DEEP], POLICY);
    assert.deepEqual([verdict.state, verdict.transfer], ['spendable', TRANSFER]);
  });

  describe('whatever one vendor shows', () => {
    const anyBlock = fc
      .tuple(fc.integer({ min: 95, max: 105 }), fc.integer({ min: 0, max: 2 }))
      .map(([h, f]) => block(h, f));
    const anyHead = fc
      .tuple(
        fc.integer({ min: 100, max: 150 }),
        fc.option(fc.integer({ min: 90, max: 150 })),
        fc.option(fc.integer({ min: 90, max: 150 })),
      )
      .map(([height, safe, finalized]) => head(height, { safe, finalized }));
    const anyView: fc.Arbitrary<VendorView> = fc.oneof(
      fc.constant(ABSENT),
      fc.constant(SILENT),
      fc
        .tuple(anyHead, anyBlock, fc.constantFrom(TRANSFER, OTHER))
        .map(([at, where, transfer]) => shown(at, where, transfer)),
    );
    const anyState = fc.constantFrom<DepositState>('seen', 'spendable', 'final', 'undone');

    it('a single vendor moves nothing where the others are silent', () => {
      fc.assert(
        fc.property(anyState, anyView, fc.nat(3), (state, view, silent) => {
          const views = [view, ...Array.from({ length: silent }, () => SILENT)];
          const verdict = decideDeposit(record(state), views, POLICY);
          assert.deepEqual([verdict.state, verdict.block.hash, verdict.isAgreed], [state, AT.hash, false]);
        }),
      );
    });

    it('a single vendor cannot make two honest ones credit what they do not show, nor withdraw what they show', () => {
      fc.assert(
        fc.property(anyState, anyView, anyHead, (state, view, at) => {
          const gone = decideDeposit(record(state), [view, ABSENT, ABSENT], POLICY);
          assert.equal(gone.state, 'undone');
          const honest = shown(at);
          const there = decideDeposit(record(state), [honest, view, honest], POLICY);
          assert.notEqual(there.state, 'undone');
          assert.equal(there.block.hash, AT.hash);
        }),
      );
    });

    it('the verdict does not depend on the order of the vendors', () => {
      fc.assert(
        fc.property(anyState, fc.array(anyView, { maxLength: 5 }), (state, views) => {
          const one = decideDeposit(record(state), views, POLICY);
          const other = decideDeposit(record(state), views.toReversed(), POLICY);
          assert.deepEqual(
            [one.state, one.block.hash, one.isDisputed],
            [other.state, other.block.hash, other.isDisputed],
          );
        }),
      );
    });

    it('a credited deposit is shown in one block by two vendors, and a lost one is denied by two', () => {
      fc.assert(
        fc.property(anyState, fc.array(anyView, { maxLength: 5 }), (state, views) => {
          const verdict = decideDeposit(record(state), views, POLICY);
          if (verdict.state === state && verdict.block.hash === AT.hash) return;
          const supporters = views.filter((view) =>
            verdict.state === 'undone'
              ? view.kind === 'absent'
              : view.kind === 'shown' && view.block.hash === verdict.block.hash,
          );
          assert.ok(supporters.length >= 2);
        }),
      );
    });
  });
});

describe('the rules of a chain', () => {
  it('the rules of a chain are read and written in words', () => {
    for (const text of ['12 blocks', '20 seconds', 'safe', 'finalized']) {
      assert.equal(spendableRuleText(parseSpendableRule(text)!), text);
    }
    for (const text of ['', '0 blocks', '12', 'blocks', '-1 blocks', '1.5 seconds', 'latest']) {
      assert.equal(parseSpendableRule(text), null);
    }
  });

  it('a transfer in the newest block is confirmed once', () => {
    assert.deepEqual([confirmationsAt(100, 100), confirmationsAt(100, 111), confirmationsAt(100, 99)], [1, 12, 0]);
  });

  it('key a payment by chain, transaction and place in the receipt', () => {
    assert.equal(depositPaymentId({ chainId: 8453, txHash: '0xab', ordinal: 1 }), '8453/0xab/1');
  });

  it('one unit of a dollar token has an exact value', () => {
    assert.equal(usdOfUnits(1n, 6), usd('0.000001'));
    assert.equal(usdOfUnits(25_000_001n, 6), usd('25.000001'));
    assert.throws(() => usdOfUnits(1n, 18));
  });
});

describe('the head of a vendor that does not say what is safe or final', () => {
  const latest = { height: 1000, hash: '0x1', time: 1 };
  const depths = { safe: 64, final: 128 };

  it('missing safe and final heights are filled in by depth, each for itself', () => {
    const filled = (safe: number | null, finalized: number | null) => {
      const head = withFinality({ latest, safe, finalized }, depths);
      return [head.safe, head.finalized];
    };
    assert.deepEqual(filled(990, 980), [990, 980]);
    assert.deepEqual(filled(null, null), [936, 872]);
    assert.deepEqual(filled(990, null), [990, 872]);
    assert.deepEqual(filled(null, 980), [936, 980]);
  });

  it('a height is not filled in where the chain is not that long', () => {
    const young = { latest: { ...latest, height: 100 }, safe: null, finalized: null };
    const { safe, finalized } = withFinality(young, depths);
    assert.deepEqual([safe, finalized], [36, null]);
    assert.equal(withFinality({ ...young, latest: { ...latest, height: 10 } }, depths).safe, null);
  });
});

describe('a peg', () => {
  const NOW = 1_000_000;
  const round = (given: Partial<FeedRound> = {}): FeedRound => ({
    answer: 99_990_000n,
    decimals: 8,
    startedAt: NOW - 60,
    updatedAt: NOW - 60,
    ...given,
  });
  const price = (given: Partial<FeedRound> = {}, heartbeatSeconds = 86_400) => ({
    round: round(given),
    heartbeatSeconds,
  });
  const UP = round({ answer: 0n, decimals: 0, startedAt: NOW - 7200 });

  it('a peg holds at 0.98 and not below it', () => {
    assert.equal(pegFaultOf(NOW, price({ answer: 98_000_000n }), null), null);
    assert.equal(pegFaultOf(NOW, price({ answer: 97_999_999n }), null), 'peg_lost');
    assert.equal(pegFaultOf(NOW, price({ answer: 980_000_000_000_000_000n, decimals: 18 }), null), null);
  });

  it('a zero or negative price is no peg', () => {
    assert.equal(pegFaultOf(NOW, price({ answer: 0n }), null), 'price_not_positive');
    assert.equal(pegFaultOf(NOW, price({ answer: -1n }), null), 'price_not_positive');
  });

  it('a price may be as old as its own feed allows', () => {
    assert.equal(pegFaultOf(NOW, price({ updatedAt: NOW - 3601 }, 3600), null), 'price_stale');
    assert.equal(pegFaultOf(NOW, price({ updatedAt: NOW - 3601 }, 86_400), null), null);
  });

  it('a peg waits for a sequencer that is down, unknown, or back for less than an hour', () => {
    assert.equal(pegFaultOf(NOW, price(), UP), null);
    assert.equal(pegFaultOf(NOW, price(), { ...UP, answer: 1n }), 'sequencer_down');
    assert.equal(pegFaultOf(NOW, price(), { ...UP, startedAt: 0 }), 'sequencer_down');
    assert.equal(pegFaultOf(NOW, null, { ...UP, startedAt: NOW - 3599 }), 'sequencer_down');
  });

  it('a peg is not checked where no feed is configured', () => {
    assert.equal(pegFaultOf(NOW, null, null), null);
  });
});
