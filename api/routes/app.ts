/**
 * The management interface: everything that customers and staff read and change by HTTP, beside the gateway. Thin: each
 * route parses, calls the database or a workflow once, and renders. Holds no state of its own.
 */
import { hash } from 'node:crypto';
import express, { type Express, type RequestHandler } from 'express';
import { uuidv7 } from 'uuidv7';
import { Refusal } from '../../domain/errors.ts';
import { formatId, uuidOf } from '../../domain/ids.ts';
import { clientAddressReader } from '../http/client-address.ts';
import { accountRoutes } from './account/accounts/account.ts';
import { affiliateRoutes } from './account/commissions/affiliate.ts';
import { adminAccountRoutes } from './staff/accounts/accounts.ts';
import { actionRoutes } from './staff/accounts/actions.ts';
import { adminAffiliateRoutes } from './staff/commissions/affiliates.ts';
import { commissionDecisionRoutes } from './staff/commissions/commission-decisions.ts';
import { commissionRunRoutes } from './staff/commissions/commissions.ts';
import { adjustmentRoutes } from './staff/accounts/adjustments.ts';
import { approvalRoutes } from './staff/accounts/approvals.ts';
import { auditRoutes } from './staff/accounts/audit.ts';
import { bountyRoutes } from './staff/rewards/bounties.ts';
import { caseRoutes } from './staff/accounts/cases.ts';
import { chainRoutes } from './staff/payments/chains.ts';
import { changeRoutes } from './staff/accounts/changes.ts';
import { manualCreditRoutes } from './staff/payments/manual-credits.ts';
import { modelRoutes } from './staff/requests/models.ts';
import { postingRoutes } from './staff/accounts/postings.ts';
import { refundRoutes } from './staff/requests/refunds.ts';
import { adminRequestRoutes } from './staff/requests/requests.ts';
import { adminRewardRoutes } from './staff/rewards/rewards.ts';
import { tokenRoutes } from './staff/accounts/tokens.ts';
import { adminTopUpRoutes } from './staff/payments/top-ups.ts';
import { adminVoucherRoutes } from './staff/payments/vouchers.ts';
import { webhookCountRoutes } from './staff/payments/webhooks.ts';
import { autoTopUpRoutes } from './account/payments/auto-top-up.ts';
import type { ManagementDeps } from '../http/deps.ts';
import { discordRoutes, registerDiscordCallback } from './account/rewards/discord.ts';
import { createErrorHandler } from '../http/errors.ts';
import { Exports } from '../http/exports.ts';
import { keyRoutes } from './account/accounts/keys.ts';
import { logRoutes } from './account/requests/logs.ts';
import { openApiDocument } from '../http/openapi.ts';
import { registerRoutes } from '../http/register.ts';
import { registerReferralLink } from './account/commissions/referral-link.ts';
import { registerReturnPage } from './account/payments/return-page.ts';
import { rewardRoutes } from './account/rewards/rewards.ts';
import type { Route } from '../http/route.ts';
import { StrangersGate } from '../http/strangers.ts';
import { topUpReceiptRoutes } from './account/payments/top-up-receipt.ts';
import { topUpCsvRoutes } from './account/payments/top-ups-csv.ts';
import { topUpRoutes } from './account/payments/top-ups.ts';
import { accountTokenRoutes } from './account/accounts/tokens.ts';
import { usageRoutes } from './account/requests/usage.ts';
import { voucherRoutes } from './account/payments/vouchers.ts';
import { WebhookBodies } from './webhooks/bodies.ts';
import { registerDiscordWebhook } from './webhooks/discord.ts';
import { registerVoteWebhooks } from './webhooks/votes.ts';
import { registerWelcomePage } from './welcome-page.ts';
import { registerWebhooks } from './webhooks/webhooks.ts';

export type { ManagementDeps } from '../http/deps.ts';

/** Every route of the management interface. */
export function managementRoutes(deps: ManagementDeps): Route[] {
  const exports = new Exports();
  return [
    ...accountRoutes(deps),
    ...keyRoutes(deps),
    ...accountTokenRoutes(deps),
    ...logRoutes(deps, exports),
    ...usageRoutes(deps),
    ...topUpRoutes(deps),
    ...topUpCsvRoutes(deps, exports),
    ...topUpReceiptRoutes(deps),
    ...adminAccountRoutes(deps),
    ...adjustmentRoutes(deps),
    ...approvalRoutes(deps),
    ...changeRoutes(deps),
    ...modelRoutes(deps),
    ...adminRequestRoutes(deps),
    ...refundRoutes(deps),
    ...caseRoutes(deps),
    ...chainRoutes(deps),
    ...auditRoutes(deps),
    ...postingRoutes(deps),
    ...tokenRoutes(deps),
    ...actionRoutes(deps),
    ...webhookCountRoutes(deps),
    ...adminTopUpRoutes(deps),
    ...rewardRoutes(deps),
    ...discordRoutes(deps),
    ...bountyRoutes(deps),
    ...adminRewardRoutes(deps),
    ...affiliateRoutes(deps),
    ...adminAffiliateRoutes(deps),
    ...commissionDecisionRoutes(deps),
    ...commissionRunRoutes(deps),
    ...manualCreditRoutes(deps),
    ...autoTopUpRoutes(deps),
    ...voucherRoutes(deps),
    ...adminVoucherRoutes(deps),
  ];
}

/** The express app that answers every path which is not the gateway's. */
export function createManagementApp(deps: ManagementDeps): Express {
  const app = express();
  app.disable('x-powered-by');
  app.disable('etag');
  app.enable('case sensitive routing');
  app.enable('strict routing');
  app.set('query parser', 'simple');
  app.use(identify);

  const routes = managementRoutes(deps);
  const addressOf = clientAddressReader(deps.settings.trustedProxies);
  const strangers = new StrangersGate(addressOf);
  const bodies = new WebhookBodies({ addressOf, failures: deps.failures, refusals: deps.webhookRefusals });
  app.get('/openapi.json', documentHandler(openApiDocument(routes)));
  registerWebhooks(app, deps, bodies);
  registerDiscordWebhook(app, deps, bodies);
  registerVoteWebhooks(app, deps, bodies);
  // A path that is mistyped at a provider: else nobody would learn why its events do not arrive.
  app.post('/webhooks{/*path}', bodies.notConfigured('unknown'));
  registerDiscordCallback(app, deps, strangers);
  registerReturnPage(app);
  registerReferralLink(app, deps, strangers);
  registerWelcomePage(app, deps);
  registerRoutes(app, routes, deps);

  app.use(() => {
    throw new Refusal('not_found');
  });
  app.use(createErrorHandler(deps.logger));
  return app;
}

/** Answers a document that never changes: its bytes are made once, and a client that has them gets 304. */
function documentHandler(document: unknown): RequestHandler {
  const bytes = Buffer.from(JSON.stringify(document));
  const etag = `"${hash('sha256', bytes, 'base64url')}"`;
  return (request, response) => {
    response.setHeader('etag', etag);
    // Not express' own comparison, which sends everything to a client that asks for a check with the origin: this is
    // the origin.
    const known = (request.headers['if-none-match'] ?? '').split(',').map((tag) => tag.trim().replace(/^W\//, ''));
    if (known.includes(etag) || known.includes('*')) {
      response.status(304).end();
      return;
    }
    response.setHeader('content-type', 'application/json; charset=utf-8');
    response.setHeader('content-length', bytes.length);
    response.end(bytes);
  };
}

/** Gives every answer its request id, and headers that keep answers out of caches, frames and content sniffing. */
const identify: RequestHandler = (_request, response, next) => {
  if (!response.hasHeader('x-request-id')) {
    response.setHeader('x-request-id', formatId('request', uuidOf('request', uuidv7())));
  }
  response.setHeader('cache-control', 'no-store');
  response.setHeader('x-content-type-options', 'nosniff');
  response.setHeader('x-frame-options', 'DENY');
  response.setHeader('content-security-policy', "default-src 'none'; frame-ancestors 'none'");
  response.setHeader('referrer-policy', 'no-referrer');
  response.setHeader('cross-origin-resource-policy', 'same-origin');
  next();
};
