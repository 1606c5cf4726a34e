/**
 * Where a checkout sends its customer back to. The page says nothing about an order, so that it needs no sign-in: that
 * somebody came back proves no payment. The account shows the credit.
 */
import type { Express } from 'express';

const page = (title: string, text: string): string =>
  `<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n` +
  `<title>${title}</title>\n<h1>${title}</h1>\n<p>${text}</p>\n</html>\n`;

const RETURNED = page(
  'Thank you',
  'Your credit appears in your account as soon as the provider has confirmed the payment, usually within seconds. You can close this page.',
);
const CANCELLED = page(
  'Nothing was paid',
  'You left the checkout without paying. It stays open for a while, so you can return to it.',
);

export function registerReturnPage(app: Express): void {
  app.get('/top-ups/:id', (request, response) => {
    response.type('html').send(request.query['cancelled'] === undefined ? RETURNED : CANCELLED);
  });
}
