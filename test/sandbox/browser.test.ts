/**
 * A newcomer's steps after `npm start`, in a real browser: pays a checkout by card, sends test USDC, sees the balance
 * rise.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { usd, type PicoUsd } from '../../domain/money.ts';
import { freePort } from '../../twins/kit/ports.ts';
import type { StackFile } from '../../sandbox/stack-file.ts';
import { startStack, type Stack } from '../../sandbox/stack.ts';
import { chromiumPath, launchBrowser, NO_CHROMIUM } from '../support/browser.ts';
import { until } from '../support/until.ts';

interface TopUp {
  readonly id: string;
  readonly checkout_url: string | null;
  readonly deposit: { readonly address: string } | null;
}

describe('a newcomer with a browser', () => {
  let dataDir: string;
  let stack: Stack;
  let file: StackFile;
  let browser: Browser;
  let page: Page;

  before(async function () {
    const chromium = chromiumPath();
    if (chromium === null) {
      process.stdout.write(`    skipped: ${NO_CHROMIUM}\n`);
      return void this.skip();
    }
    this.timeout(120_000);
    dataDir = mkdtempSync(join(tmpdir(), 'holdfast-browser-'));
    stack = await startStack({
      dataDir,
      env: { ...process.env, HOLDFAST_PORT: String(await freePort()), DATABASE_URL: '', TEMPORAL_ADDRESS: '' },
    });
    file = stack.describe();
    browser = await launchBrowser(chromium);
    page = await browser.newPage();
  });
  after(async () => {
    await browser?.close();
    await stack?.stop();
    if (dataDir !== undefined) rmSync(dataDir, { recursive: true, force: true });
  });

  async function ask<T>(method: string, path: string, body?: unknown): Promise<T> {
    const response = await fetch(`${file.base_url}${path}`, {
      method,
      headers: { authorization: `Bearer ${file.demo.management_token}`, 'content-type': 'application/json' },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    return (await response.json()) as T;
  }

  const balance = async (): Promise<PicoUsd> =>
    usd((await ask<{ balance_usd: string }>('GET', '/api/account')).balance_usd);

  async function untilRisen(before: PicoUsd, by: string): Promise<void> {
    await until(`the balance to rise by ${by}`, async () => (await balance()) === before + usd(by), 90_000);
  }

  it('pays a checkout by card and comes back to a page that says so', async function () {
    this.timeout(120_000);
    const before = await balance();
    const order = await ask<TopUp>('POST', '/api/top-ups', { method: 'card', amount_usd: '10' });
    assert.ok(order.checkout_url !== null);
    await page.goto(order.checkout_url);
    await page.getByRole('button', { name: /^Pay \$10/ }).click();
    await page.waitForURL(`${file.base_url}/top-ups/${order.id}**`);
    assert.match(await page.locator('body').innerText(), /thank|paid|received/i);
    await untilRisen(before, '10');
  });

  it('sends test USDC from the faucet to the address of an order', async function () {
    this.timeout(120_000);
    const before = await balance();
    const { deposit } = await ask<TopUp>('POST', '/api/top-ups', { method: 'crypto', amount_usd: '10' });
    assert.ok(deposit !== null);
    const query = new URLSearchParams({ chain_id: '8453', token: 'USDC', to: deposit.address, amount: '12.5' });
    await page.goto(`${file.twins.chain_control_url}/?${query.toString()}`);
    await page.getByRole('button', { name: /send/i }).click();
    assert.match(await page.locator('body').innerText(), /12\.5 USDC sent to/);
    await untilRisen(before, '12.5');
  });
});
