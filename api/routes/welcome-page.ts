/**
 * `GET /`: where a visitor lands who follows an affiliate's link, or who looks what is at this address. Says what this
 * is and how an account is come by; to whom a click is remembered, it says so, by the cookie's signature alone.
 */
import type { Express } from 'express';
import type { ManagementDeps } from '../http/deps.ts';
import { referralOfVisitor } from './account/commissions/referral-link.ts';

const escape = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');

const INVITED =
  '<p>You followed an invitation. This browser remembers it for 30 days: an account opened for you in this time ' +
  'counts for the person who invited you.</p>\n';

function page(publicUrl: string, isInvited: boolean): string {
  const base = escape(publicUrl);
  return (
    '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n' +
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n' +
    '<title>Prepaid access to language models</title>\n<h1>Prepaid access to language models</h1>\n' +
    (isInvited ? INVITED : '') +
    '<p>You top up a balance and pay the exact cost of each request; nothing expires and there is no monthly fee. ' +
    'The operator of this gateway opens accounts: ask them for one.</p>\n' +
    `<p>With an API key, clients of OpenAI's interface work unchanged at the base address <code>${base}/v1</code>. ` +
    'The interface is described in <a href="/openapi.json">openapi.json</a>.</p>\n</html>\n'
  );
}

export function registerWelcomePage(app: Express, { settings }: ManagementDeps): void {
  const { referralKey, payments } = settings;
  app.get('/', (request, response) => {
    const referral = referralOfVisitor(referralKey, request.headers.cookie, new Date());
    response
      .set('cache-control', 'no-store')
      .set('content-security-policy', "default-src 'none'; frame-ancestors 'none'")
      .type('html')
      .send(page(payments.publicUrl, referral !== null));
  });
}
