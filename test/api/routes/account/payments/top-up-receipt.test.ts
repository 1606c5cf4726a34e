/** Receipts: the document is read back as a reader's program reads it, and agrees with the ledger. */
import assert from 'node:assert/strict';
import { getDocument } from 'pdfjs-dist/legacy/build/pdf.mjs';
import { findTopUpRecord } from '../../../../../db/payments/top-up-records.ts';
import { formatId, type AccountUuid } from '../../../../../domain/ids.ts';
import { usd } from '../../../../../domain/money.ts';
import type { TopUp } from '../../../../../db/payments/top-ups.ts';
import { receiptOf } from '../../../../../api/routes/account/payments/top-up-receipt.ts';
import { decideManualCredit, requestManualCredit } from '../../../../../db/payments/manual-credits.ts';
import { notePayments } from '../../../../../db/payments/known-payments.ts';
import { creditPayment } from '../../../../../db/payments/payments.ts';
import { createCustomer } from '../../../../support/ledger-database.ts';
import { creditedTopUp, reverse, waitingTopUp } from '../../../../support/paid-top-ups.ts';
import { ADA, BOB, upTo } from '../../../../support/staff.ts';
import { refusal, startManagement, tokenOf, type Management } from '../../management.ts';

describe('receipt of a top-up', () => {
  let management: Management;
  let accountId: AccountUuid;
  let token: string;
  before(async () => {
    management = await startManagement('routes_receipt');
  });
  after(() => management.stop());
  beforeEach(async () => {
    accountId = await createCustomer(management, '0');
    token = await tokenOf(management, 'account', accountId);
  });

  async function fetchReceipt(order: TopUp, as = token): Promise<Response> {
    return fetch(`${management.url}/api/top-ups/${formatId('topUp', order.id)}/receipt.pdf`, {
      headers: { authorization: `Bearer ${as}` },
    });
  }

  async function bytesOf(order: TopUp): Promise<Uint8Array> {
    const response = await fetchReceipt(order);
    assert.equal(response.status, 200);
    return new Uint8Array(await response.arrayBuffer());
  }

  /** The text of a PDF, a line of it per line, pages one after another. */
  async function textOf(bytes: Uint8Array): Promise<string> {
    const task = getDocument({ data: bytes.slice(), useSystemFonts: false, verbosity: 0 });
    const document = await task.promise;
    const lines: string[] = [];
    for (let n = 1; n <= document.numPages; n++) {
      let y: number | null = null;
      for (const item of (await (await document.getPage(n)).getTextContent()).items) {
        if (!('str' in item) || item.str.trim() === '') continue;
        const at = Math.round(item.transform[5] as number);
        if (at === y) lines.push(`${lines.pop() ?? ''} ${item.str}`);
        else lines.push(item.str);
        y = at;
      }
    }
    await task.destroy();
    return lines.join('\n');
  }

  const rename = (name: string, email: string | null = null): Promise<unknown> =>
    management.admin.query('update account set name = $2, email = $3 where id = $1', [accountId, name, email]);

  it('a receipt names seller, customer, payment and credit', async () => {
    await rename('Ada Lovelace', 'ada@example.com');
    const { order, paymentId } = await creditedTopUp(management, { accountId });
    const response = await fetchReceipt(order);
    assert.equal(response.headers.get('content-type'), 'application/pdf');
    assert.match(
      response.headers.get('content-disposition') ?? '',
      /^attachment; filename="receipt-\d{8}-[0-9A-F]{12}\.pdf"$/,
    );
    const text = await textOf(new Uint8Array(await response.arrayBuffer()));
    for (const line of [
      /^Receipt \d{8}-[0-9A-F]{12}$/m,
      /^Test Seller Ltd\.$/m,
      /^1 Harbour Road, Bristol$/m,
      /^Date \d{4}-\d\d-\d\d$/m,
      /^Customer Ada Lovelace$/m,
      /^E-mail ada@example\.com$/m,
      new RegExp(`^Account ${formatId('account', accountId)}$`, 'm'),
      new RegExp(`^Top-up ${formatId('topUp', order.id)}$`, 'm'),
      /^Method card \(stripe\)$/m,
      /^Amount 10\.00 USD$/m,
      /^Fee 0\.50 USD$/m,
      /^Total asked 10\.50 USD$/m,
      /^Paid 10\.50 USD$/m,
      /^Credited 10\.00 USD$/m,
      new RegExp(`^Payment id ${paymentId}$`, 'm'),
      /^Remaining credit 10\.00 USD$/m,
      /^No VAT is charged\.$/m,
    ]) {
      assert.match(text, line);
    }
    assert.doesNotMatch(text, /Taken back|\[U\+|test: no real money/);
  });

  it('the same state gives the same document, byte by byte, for customer and staff', async () => {
    const { order } = await creditedTopUp(management, { accountId });
    const first = await bytesOf(order);
    assert.deepEqual(await bytesOf(order), first);
    const staff = await fetch(`${management.url}/admin/top-ups/${formatId('topUp', order.id)}/receipt.pdf`, {
      headers: { authorization: `Bearer ${management.tokens.support}` },
    });
    assert.deepEqual(new Uint8Array(await staff.arrayBuffer()), first);
    await reverse(management, order, { objectId: 're_1', kind: 'refund', direction: 'out', amount: '1' });
    assert.notDeepEqual(await bytesOf(order), first);
  });

  it('a receipt shows what refunds and disputes took back and what a won one restored', async () => {
    const { order } = await creditedTopUp(management, { accountId });
    await reverse(management, order, { objectId: 're_7', kind: 'refund', direction: 'out', amount: '2.5' });
    await reverse(management, order, { objectId: 'dp_8', kind: 'dispute', direction: 'out', amount: '7.5' });
    await reverse(management, order, { objectId: 'dp_8', kind: 'dispute', direction: 'in', amount: '7.5' });
    const text = await textOf(await bytesOf(order));
    assert.match(text, /^Refund 2\.50 USD credit reversed, [^\n]*UTC,\s+re_7$/m);
    assert.match(text, /^Dispute 7\.50 USD credit reversed, [^\n]*UTC,\s+dp_8$/m);
    assert.match(text, /^Dispute 7\.50 USD credit restored, [^\n]*UTC,\s+dp_8$/m);
    assert.match(text, /^Taken back 2\.50 USD$/m);
    assert.match(text, /^Remaining credit 7\.50 USD$/m);
  });

  it('a receipt has every payment of an order, on as many pages as it needs', async () => {
    const order = await waitingTopUp(management, {
      accountId,
      method: 'crypto',
      provider: 'crypto',
      amount: '40',
      fee: '0',
    });
    for (let n = 1; n <= 20; n++) {
      await creditPayment(management.worker, {
        topUpId: order.id,
        paymentId: `8453/0x${String(n).padStart(64, '0')}/0`,
        received: usd('2.000001'),
        credit: usd('2.000001'),
        isFinal: true,
        creditedBy: 'provider',
      });
    }
    const text = await textOf(await bytesOf(order));
    assert.match(text, /^Payment 1 of 20$/m);
    assert.match(text, /^Payment 20 of 20$/m);
    assert.equal(text.match(/^Credited 2\.000001 USD$/gm)?.length, 20);
    assert.match(text, /^Remaining credit 40\.00002 USD$/m);
  });

  it('a receipt shows a payment in its own currency, beside its credit', async () => {
    const order = await waitingTopUp(management, { accountId });
    const yen = {
      paymentId: `pi_${order.id}`,
      status: 'paid',
      received: usd('1500'),
      currency: 'jpy',
      live: true,
    } as const;
    await notePayments(management.worker, order.id, [yen]);
    const { id } = await requestManualCredit(management.management, {
      ...{
        action: order.id,
        topUpId: order.id,
        paymentId: yen.paymentId,
        amount: usd('9.75'),
        reason: 'rate of the day',
      },
      ...{ requestedBy: ADA, limits: upTo('100') },
    });
    await decideManualCredit(management.management, { id, approve: true, decidedBy: BOB });
    const text = await textOf(await bytesOf(order));
    assert.equal(text.match(/^Paid 1500 JPY$/gm)?.length, 2, text);
    assert.match(text, /^Credited 9\.75 USD$/m);
    assert.doesNotMatch(text, /Paid [^\n]*USD/);
  });

  for (const [what, name, shown] of [
    ['Latin with accents', 'Žofie Łukaszewska-Nuñez', 'Žofie Łukaszewska-Nuñez'],
    ['Cyrillic', 'Жанна Агузарова', 'Жанна Агузарова'],
    ['Greek', 'Ελένη Παπαδοπούλου', 'Ελένη Παπαδοπούλου'],
    ['combining marks', 'e\u0301le\u0300ve', '\u00e9l\u00e8ve'],
    ['characters the font lacks', '李 Ann', '[U+674E] Ann'],
    ['an emoji', 'Ann 👍', 'Ann [U+1F44D]'],
  ] as const) {
    it(`a receipt shows a name in ${what}`, async () => {
      await rename(name);
      const text = await textOf(await bytesOf((await creditedTopUp(management, { accountId })).order));
      assert.ok(text.includes(`Customer ${shown}`), text);
      assert.equal(text.includes('written as their Unicode numbers'), shown.includes('[U+'));
    });
  }

  it('only credited orders have a receipt, and only for their own account', async () => {
    const open = await waitingTopUp(management, { accountId });
    const path = (order: TopUp): string => `/api/top-ups/${formatId('topUp', order.id)}/receipt.pdf`;
    const early = await management.call('GET', path(open), { token });
    assert.deepEqual(refusal(early), { status: 409, code: 'conflict', param: null });
    assert.match(early.text, /The top-up is waiting: only a credited top-up has a receipt\./);
    const { order } = await creditedTopUp(management, { accountId });
    assert.equal(refusal(await management.call('GET', path(order))).code, 'not_found');
  });

  it('many receipts at once are all drawn, or refused by name', async () => {
    const { order } = await creditedTopUp(management, { accountId });
    const responses = await Promise.all(Array.from({ length: 12 }, () => fetchReceipt(order)));
    const statuses = responses.map(({ status }) => status);
    await Promise.all(responses.map((response) => response.arrayBuffer()));
    assert.ok(statuses.filter((status) => status === 200).length >= 8, statuses.join());
    assert.deepEqual(
      [...new Set(statuses)].filter((status) => status !== 200 && status !== 429),
      [],
    );
  });

  it('a receipt of a seller that adds tax says that the paid sum is without it', async () => {
    const { order } = await creditedTopUp(management, { accountId, method: 'creem', provider: 'creem' });
    const text = await textOf(await bytesOf(order));
    assert.equal(text.match(/^Paid, without tax 10\.50 USD$/gm)?.length, 2);
    assert.doesNotMatch(text, /^Paid \d/m);
  });

  it('a test order says that no real money was paid', async () => {
    const { order } = await creditedTopUp(management, { accountId });
    const record = await findTopUpRecord(management.deps.reporter, { id: order.id, accountId: null });
    const receipt = receiptOf({ ...record!, live: false }, { seller: [], footer: '' });
    assert.ok(receipt.sections[0]!.lines.some(({ text }) => text === 'test: no real money was paid'));
  });
});
