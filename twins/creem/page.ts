/** The hosted checkout page: one plain HTML form, no JavaScript. Creem asks for the tax on top, and so does this. */
import type { PageAnswer } from '../kit/http.ts';
import { escape, htmlPage } from '../kit/html.ts';
import { pay, totalsOf } from './payments.ts';
import type { Checkout } from './store.ts';
import type { World } from './world.ts';

export function showPage(world: World, checkoutId: string): PageAnswer {
  const checkout = world.store.checkouts.get(checkoutId);
  if (checkout === undefined) return notice(404, 'There is no such checkout', 'Check the link that you followed.');
  return checkout.status === 'pending' ? { status: 200, html: paymentForm(world, checkout) } : ended(checkout);
}

/** Pays, and sends the customer back to the seller with the ids that Creem adds. */
export function submitPage(world: World, checkoutId: string): PageAnswer {
  const checkout = world.store.checkouts.get(checkoutId);
  if (checkout?.status !== 'pending') return showPage(world, checkoutId);
  pay(world, checkout);
  return checkout.success_url == null
    ? ended(checkout)
    : { status: 303, location: backTo(checkout.success_url, checkout) };
}

function backTo(successUrl: string, { id, order, request_id: requestId }: Checkout): string {
  const url = new URL(successUrl);
  url.searchParams.set('checkout_id', id);
  if (order !== undefined) url.searchParams.set('order_id', order.id);
  if (requestId !== undefined) url.searchParams.set('request_id', requestId);
  return url.href;
}

function ended({ status, success_url: successUrl }: Checkout): PageAnswer {
  if (status !== 'completed') return notice(410, 'This checkout has expired', 'Start again at the seller.');
  const link = successUrl == null ? '' : `<p><a href="${escape(successUrl)}">Back to the seller</a></p>`;
  return notice(200, 'This payment has been made', 'You do not have to pay again.', link);
}

function paymentForm(world: World, checkout: Checkout): string {
  const { price, tax } = totalsOf(world, checkout);
  const total = priceOf(world, price + tax);
  return page(
    `Pay ${total}`,
    `<p>${escape(world.store.product.name)}</p>
<h1>${escape(total)}</h1>
<dl><dt>Price</dt><dd>${escape(priceOf(world, price))}</dd><dt>Tax</dt><dd>${escape(priceOf(world, tax))}</dd></dl>
<form method="post"><button type="submit">Pay ${escape(total)}</button></form>
<p class="small">Test mode: no money moves.</p>`,
  );
}

function notice(status: number, title: string, text: string, link = ''): PageAnswer {
  return { status, html: page(title, `<h1>${title}</h1><p>${text}</p>${link}`) };
}

function priceOf(world: World, cents: number): string {
  return new Intl.NumberFormat('en-US', { style: 'currency', currency: world.store.product.currency }).format(
    cents / 100,
  );
}

function page(title: string, body: string): string {
  return htmlPage(title, STYLE, body);
}

const STYLE = `body { margin: 0; min-height: 100vh; display: grid; place-items: center; background: light-dark(#f7f4ee, #191714); }
main { box-sizing: border-box; width: min(24rem, 100vw); padding: 2rem; background: light-dark(#fff, #242019); border-radius: .75rem; }
h1 { margin: 0 0 1.5rem; font-size: 1.75rem; line-height: 1.2; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: 1fr auto; gap: .25rem 1rem; margin: 0; }
dd { margin: 0; text-align: right; }
button { box-sizing: border-box; width: 100%; margin-top: 1rem; padding: .75rem; font: inherit; font-weight: 600; color: #fff; background: #9a3412; border: 0; border-radius: .5rem; cursor: pointer; }
:focus-visible { outline: 3px solid #fb923c; outline-offset: 2px; }
.small { margin: 1.5rem 0 0; font-size: .875rem; }`;
