/**
 * The faucet as a page: a plain HTML form, no JavaScript. A link may fill it in:
 * `/?chain_id=8453&token=USDC&to=0x…&amount=25`.
 */
import type { PageAnswer } from '../kit/http.ts';
import { escape, htmlPage } from '../kit/html.ts';
import type { ChainHandle, Sent } from './handle.ts';
import { chainOf, type ChainWorld } from './world.ts';
import { BadInput } from '../kit/input.ts';

interface Fields {
  readonly chainId: string;
  readonly token: string;
  readonly to: string;
  readonly amount: string;
}

const CHAIN_NAMES: Readonly<Record<number, string>> = {
  1: 'Ethereum',
  137: 'Polygon',
  8453: 'Base',
  42161: 'Arbitrum',
};
const TOKENS = ['USDC', 'USDT'] as const;
/** More than finality takes at any setting of the sandbox. */
const BLOCKS_AT_ONCE = 25;

export function showPage(world: ChainWorld, query: URLSearchParams): string {
  return form(world, fieldsOf(world, query), null);
}

/** Answers the page's form: it is shown again, with what happened or what was wrong. */
export async function submitPage(world: ChainWorld, data: URLSearchParams): Promise<PageAnswer> {
  const fields = fieldsOf(world, data);
  try {
    const { handle } = chainOf(world, Number(fields.chainId));
    const told = data.get('action') === 'mine' ? await mine(handle) : await send(handle, fields);
    return { status: 200, html: form(world, fields, { told, isError: false, field: null }) };
  } catch (error) {
    if (!(error instanceof BadInput)) throw error;
    return { status: 422, html: form(world, fields, { told: error.message, isError: true, field: error.field }) };
  }
}

async function mine(handle: ChainHandle): Promise<string> {
  return `${BLOCKS_AT_ONCE} blocks have been mined. The last one is ${await handle.mine(BLOCKS_AT_ONCE)}.`;
}

async function send(handle: ChainHandle, { token, to, amount }: Fields): Promise<string> {
  if (!TOKENS.some((known) => known === token)) throw new BadInput("'token' must be USDC or USDT.", 'token');
  const sent: Sent = await handle.transfer({ token, to: to.trim(), amount: amount.trim() });
  const where = `Transaction ${sent.txHash} in block ${sent.blockNumber ?? 'none'}.`;
  if (sent.succeeded === false) throw new BadInput(`The token refuses this transfer (paused or frozen). ${where}`);
  return `${amount} ${token} sent to ${to}. ${where}`;
}

function fieldsOf({ chains }: ChainWorld, from: URLSearchParams): Fields {
  return {
    chainId: from.get('chain_id') ?? String([...chains.keys()][0] ?? ''),
    token: from.get('token') ?? 'USDC',
    to: from.get('to') ?? '',
    amount: from.get('amount') ?? '25',
  };
}

interface Notice {
  readonly told: string;
  readonly isError: boolean;
  readonly field: string | null;
}

function form(world: ChainWorld, { chainId, token, to, amount }: Fields, notice: Notice | null): string {
  const chains = [...world.chains].map(([id, { handle }]): [string, string] => [
    String(id),
    `${CHAIN_NAMES[id] ?? 'Chain'} (${id}), block ${handle.head}`,
  ]);
  const tokens = TOKENS.map((name): [string, string] => [name, name]);
  const hint = (field: string): string =>
    notice?.field === field ? ' aria-invalid="true" aria-describedby="notice"' : '';
  return page(`<h1>Send test dollars</h1>
${notice === null ? '' : `<p id="notice" class="${notice.isError ? 'error' : 'done'}" role="${notice.isError ? 'alert' : 'status'}">${escape(notice.told)}</p>`}
<form method="post" action="/">
<label for="chain">Chain</label>
<select id="chain" name="chain_id"${hint('chain_id')}>${options(chains, chainId)}</select>
<label for="token">Token</label>
<select id="token" name="token"${hint('token')}>${options(tokens, token)}</select>
<label for="to">To address</label>
<input id="to" name="to" value="${escape(to)}" placeholder="0x…" autocomplete="off" spellcheck="false" required${hint('to')}>
<label for="amount">Amount</label>
<input id="amount" name="amount" value="${escape(amount)}" inputmode="decimal" autocomplete="off" required${hint('amount')}>
<button type="submit" name="action" value="send">Send</button>
<button type="submit" name="action" value="mine" class="quiet" formnovalidate>Mine ${BLOCKS_AT_ONCE} blocks: what was sent becomes final</button>
</form>
<p class="small">A test chain on this machine: the tokens are worth nothing.</p>`);
}

function options(choices: readonly [value: string, label: string][], chosen: string): string {
  return choices
    .map(([value, label]) => {
      const selected = value === chosen ? ' selected' : '';
      return `<option value="${escape(value)}"${selected}>${escape(label)}</option>`;
    })
    .join('');
}

function page(body: string): string {
  return htmlPage('Test chain faucet', STYLE, body);
}

const STYLE = `body { margin: 0; min-height: 100vh; display: grid; place-items: center; background: light-dark(#f4f5f8, #16181d); }
main { box-sizing: border-box; width: min(32rem, 100vw); padding: 2rem; background: light-dark(#fff, #20232a); border-radius: .75rem; }
h1 { margin: 0 0 1rem; font-size: 1.75rem; line-height: 1.2; }
p { overflow-wrap: anywhere; }
label { display: block; margin: 1rem 0 .25rem; }
input, select, button { box-sizing: border-box; width: 100%; padding: .75rem; font: inherit; border-radius: .5rem; border: 1px solid light-dark(#767b87, #8b909c); }
input[aria-invalid], select[aria-invalid] { border-color: light-dark(#b3261e, #f2b8b5); }
button { margin-top: 1rem; background: #4f46e5; color: #fff; border-color: transparent; font-weight: 600; cursor: pointer; }
button.quiet { background: transparent; color: inherit; font-weight: 400; border-color: light-dark(#767b87, #8b909c); }
:focus-visible { outline: 3px solid #818cf8; outline-offset: 2px; }
.error { color: light-dark(#b3261e, #f2b8b5); font-weight: 600; }
.done { color: light-dark(#146c2e, #a6d8b0); font-weight: 600; }
.small { margin: 1.5rem 0 0; font-size: .875rem; }`;
