/**
 * Makes the pictures of docs/operations.md again, from a sandbox that runs (`npm start`) and a Chromium on the path: a crypto payment
 * that waits because one RPC vendor lags, and an update that is about to be sent.
 *
 *   node docs/images/make.ts
 */
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { chromiumPath, launchBrowser, NO_CHROMIUM } from '../../test/support/browser.ts';

interface Stack {
  readonly base_url: string;
  readonly temporal_ui_url: string;
  readonly demo: { readonly management_token: string };
  readonly twins: { readonly chain_control_url: string };
}

const FOLDER = import.meta.dirname;
const CHAIN_ID = 1;
const WAIT_MS = 180_000;

const dataDir = resolve(process.env['HOLDFAST_DATA_DIR'] ?? '.holdfast');
const stack = JSON.parse(readFileSync(join(dataDir, 'stack.json'), 'utf8')) as Stack;

async function call<T>(url: string, body: object, token?: string): Promise<T> {
  const headers = {
    'content-type': 'application/json',
    'idempotency-key': randomUUID(),
    ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
  };
  const response = await fetch(url, { method: 'POST', headers, body: JSON.stringify(body) });
  if (!response.ok) throw new Error(`${url}: ${response.status} ${await response.text()}`);
  return (await response.json()) as T;
}

const chain = stack.twins.chain_control_url;
await call(`${chain}/faults`, { chain_id: CHAIN_ID, vendor: 'beta', fault: { lag_blocks: 1000 } });
const order = await call<{ id: string; deposit: { address: string } }>(
  `${stack.base_url}/api/top-ups`,
  { method: 'crypto', amount_usd: '40' },
  stack.demo.management_token,
);
await call(`${chain}/transfer`, { chain_id: CHAIN_ID, token: 'USDC', to: order.deposit.address, amount: '40' });

const program = chromiumPath();
if (program === null) throw new Error(NO_CHROMIUM);
const browser = await launchBrowser(program);
try {
  const page = await browser.newPage({ viewport: { width: 1400, height: 820 } });
  const run = `${stack.temporal_ui_url}/namespaces/holdfast/workflows/top-up%2F${order.id}`;
  for (const end = Date.now() + WAIT_MS; ; await delay(5000)) {
    await page.goto(run);
    await page.getByText('User Metadata').click();
    const isStuck = await page
      .getByText('Stuck:')
      .first()
      .waitFor({ timeout: 5000 })
      .then(
        () => true,
        () => false,
      );
    if (isStuck) break;
    if (Date.now() > end) throw new Error('the payment is not shown as stuck');
  }
  await page.screenshot({ path: join(FOLDER, 'payment-waits.png') });
  await page.getByRole('button', { name: 'More Actions' }).click();
  await page.getByText('Send an Update').click();
  await page.getByRole('combobox').first().click();
  await page.getByRole('option', { name: 'checkNow' }).click();
  await page.locator('.cm-content').last().click();
  await page.keyboard.type('{"by": "ops"}');
  await page.screenshot({ path: join(FOLDER, 'payment-check-now.png') });
} finally {
  await browser.close();
  await call(`${chain}/faults`, { chain_id: CHAIN_ID, vendor: 'beta', fault: null });
}
