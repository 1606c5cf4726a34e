/**
 * An affiliate that pays its own referred accounts: noticed by the card itself, kept or not, whichever of the two
 * accounts used it first and however it was charged. Such a top-up is credited, its commission waits for a person.
 */
import assert from 'node:assert/strict';
import { startCardStack, type CardStack } from '../support/card-stack.ts';
import { brokenRules } from '../support/ledger-database.ts';
import type { Customer } from '../support/people.ts';

describe('self-referral by card', function () {
  this.timeout(60_000);
  let cards: CardStack;
  let affiliate: Customer;
  let referred: Customer;
  let made = 0;

  before(async () => {
    cards = await startCardStack({ name: 'self-referral' });
  });
  after(() => cards.stop());
  beforeEach(async () => {
    affiliate = await cards.people.customer();
    referred = await cards.people.customer();
    const code = `selfref${++made}`;
    await cards.stack.admin.query('insert into affiliate (account_id, code) values ($1, $2)', [affiliate.uuid, code]);
    await cards.stack.admin.query('insert into referral (account_id, affiliate_id, code) values ($1, $2, $3)', [
      ...[referred.uuid, affiliate.uuid, code],
    ]);
  });
  afterEach('no rule is broken', async () => {
    assert.deepEqual(await brokenRules(cards.stack.admin), []);
  });

  const pay = async (customer: Customer, card: string, wanted: object = {}): Promise<void> => {
    const { id } = await customer.order('card', wanted);
    await cards.pay(id, { card });
    if (card.startsWith('async')) {
      await customer.untilState(id, 'processing');
      await cards.control.steer(`async/${await cards.sessionOf(id)}`, { succeed: true });
    }
    await customer.untilState(id, 'credited');
  };
  /** What holds the commission of each top-up of the referred account back. */
  const heldBy = async (): Promise<(string | null)[]> => {
    const { rows } = await cards.stack.admin.query<{ held_by: string | null }>(
      'select commission_hold(a, now()) as held_by from commission_accrual a where account_id = $1 order by id',
      [referred.uuid],
    );
    return rows.map(({ held_by }) => held_by);
  };
  const signals = async (): Promise<string[][]> => {
    const { rows } = await cards.stack.admin.query<{ signals: string[] }>(
      'select signals from commission_review where account_id = $1 order by id',
      [referred.uuid],
    );
    return rows.map((row) => row.signals);
  };

  it('is noticed though neither account kept the card', async () => {
    await pay(affiliate, 'ok');
    await pay(referred, 'ok');
    assert.deepEqual(await signals(), [['card_fingerprint']]);
    assert.deepEqual(await heldBy(), ['review']);
  });

  it('is noticed where one of them kept it, or the affiliate used it only later', async () => {
    await pay(referred, 'refund_pending', { save_card: true });
    assert.deepEqual(await heldBy(), [null]);
    await pay(affiliate, 'refund_pending');
    assert.deepEqual(await heldBy(), ['review']);
  });

  it('is noticed by a payment that took days', async () => {
    await pay(affiliate, 'async_success');
    await pay(referred, 'async_success');
    assert.deepEqual(await signals(), [['card_fingerprint']]);
  });

  it('is not suspected between two cards', async () => {
    await pay(affiliate, 'ok');
    await pay(referred, 'refund_fails');
    assert.deepEqual(await signals(), []);
    assert.deepEqual(await heldBy(), [null]);
  });
});
