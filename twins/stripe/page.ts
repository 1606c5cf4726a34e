/**
 * The checkout page: plain HTML forms, no JavaScript. It stands for Stripe's own page and for the bank's page that
 * asks the customer to authenticate.
 */
import { decimalsOf } from './currencies.ts';
import type { PageAnswer } from '../kit/http.ts';
import { escape, htmlPage } from '../kit/html.ts';
import { findCard } from './cards.ts';
import { paySession } from './checkout.ts';
import type { SessionRow } from './store.ts';
import type { World } from './world.ts';

const DEFAULT_NUMBER = '4242 4242 4242 4242';

export function showPage(world: World, sessionId: string): PageAnswer {
  const row = world.store.sessions.get(sessionId);
  if (row === undefined) return notice(404, 'There is no such checkout', 'Check the link that you followed.');
  return row.session.status === 'open' ? { status: 200, html: paymentForm(row, DEFAULT_NUMBER, null) } : ended(row);
}

/** Answers the page's forms: 303 where the customer leaves, the page again where something is to be done. */
export function submitPage(world: World, sessionId: string, form: URLSearchParams): PageAnswer {
  const row = world.store.sessions.get(sessionId);
  if (row === undefined) return showPage(world, sessionId);
  const { session } = row;
  const action = form.get('action') ?? 'pay';
  if (action === 'cancel') return { status: 303, location: session.cancel_url ?? session.success_url ?? '/' };
  if (session.status !== 'open') return ended(row);

  const number = form.get('card_number') ?? '';
  const card = findCard(number);
  if (card === undefined) return refused(row, number, 'Your card number is incorrect.');
  const authentication = action === 'authenticate' ? 'passed' : action === 'refuse' ? 'failed' : undefined;
  const result = paySession(world, row, { card, authentication });
  if (result === 'requires_action') return { status: 200, html: bankForm(row, number) };
  if (typeof result === 'object') return refused(row, number, result.message);
  return { status: 303, location: session.success_url ?? '/' };
}

function refused(row: SessionRow, number: string, message: string): PageAnswer {
  return { status: 402, html: paymentForm(row, number, message) };
}

function ended({ session }: SessionRow): PageAnswer {
  if (session.status === 'complete') {
    const { success_url: url } = session;
    const link = url === null ? '' : `<p><a href="${escape(url)}">Back to the seller</a></p>`;
    return notice(200, 'This payment has been made', 'You do not have to pay again.', link);
  }
  const link =
    session.cancel_url === null ? '' : `<p><a href="${escape(session.cancel_url)}">Back to the seller</a></p>`;
  return notice(410, 'This checkout has expired', 'Start again at the seller.', link);
}

function paymentForm({ session, description }: SessionRow, number: string, error: string | null): string {
  const price = priceOf(session.amount_total ?? 0, session.currency ?? 'usd');
  const hint = error === null ? '' : ' aria-invalid="true" aria-describedby="error"';
  const cancel =
    session.cancel_url === null
      ? ''
      : '<button type="submit" name="action" value="cancel" class="quiet" formnovalidate>Cancel</button>';
  return page(
    `Pay ${price}`,
    `<p class="what">${escape(description)}</p>
<h1>${escape(price)}</h1>
${error === null ? '' : `<p id="error" class="error" role="alert">${escape(error)}</p>`}
<form method="post">
<label for="card">Card number</label>
<input id="card" name="card_number" value="${escape(number)}" inputmode="numeric" autocomplete="off" required${hint}>
<button type="submit" name="action" value="pay">Pay ${escape(price)}</button>
${cancel}
</form>
<p class="small">Test mode: no money moves.</p>`,
  );
}

function bankForm({ session }: SessionRow, number: string): string {
  const price = priceOf(session.amount_total ?? 0, session.currency ?? 'usd');
  return page(
    'Confirm the payment',
    `<h1>Confirm the payment</h1>
<p>Your bank asks whether it is you who pays ${escape(price)}.</p>
<form method="post">
<input type="hidden" name="card_number" value="${escape(number)}">
<button type="submit" name="action" value="authenticate">Complete authentication</button>
<button type="submit" name="action" value="refuse" class="quiet">Fail authentication</button>
</form>
<p class="small">Test mode: no money moves.</p>`,
  );
}

function notice(status: number, title: string, text: string, link = ''): PageAnswer {
  return { status, html: page(title, `<h1>${title}</h1><p>${text}</p>${link}`) };
}

function priceOf(amount: number, currency: string): string {
  const format = new Intl.NumberFormat('en-US', { style: 'currency', currency: currency.toUpperCase() });
  return format.format(amount / 10 ** decimalsOf(currency));
}

function page(title: string, body: string): string {
  return htmlPage(title, STYLE, body);
}

const STYLE = `body { margin: 0; min-height: 100vh; display: grid; place-items: center; background: light-dark(#f4f5f8, #16181d); }
main { box-sizing: border-box; width: min(24rem, 100vw); padding: 2rem; background: light-dark(#fff, #20232a); border-radius: .75rem; }
h1 { margin: 0 0 1.5rem; font-size: 1.75rem; line-height: 1.2; overflow-wrap: anywhere; }
.what { margin: 0; overflow-wrap: anywhere; }
label { display: block; margin-bottom: .25rem; }
input, button { box-sizing: border-box; width: 100%; padding: .75rem; font: inherit; border-radius: .5rem; border: 1px solid light-dark(#767b87, #8b909c); }
input[aria-invalid] { border-color: light-dark(#b3261e, #f2b8b5); }
button { margin-top: 1rem; background: #4f46e5; color: #fff; border-color: transparent; font-weight: 600; cursor: pointer; }
button.quiet { background: transparent; color: inherit; font-weight: 400; border-color: light-dark(#767b87, #8b909c); }
:focus-visible { outline: 3px solid #818cf8; outline-offset: 2px; }
.error { color: light-dark(#b3261e, #f2b8b5); font-weight: 600; }
.small { margin: 1.5rem 0 0; font-size: .875rem; }`;
