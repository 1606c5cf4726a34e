/**
 * The management interface: everything that customers and staff read and change by HTTP, beside the gateway. Thin: each
 * route parses, calls the database or a workflow once, and renders. Holds no state of its own.
 */
import express, { type Express, type RequestHandler } from 'express';
import { uuidv7 } from 'uuidv7';
import { Refusal } from '../../domain/errors.ts';
import { formatId, uuidOf } from '../../domain/ids.ts';
import { accountRoutes } from './account.ts';
import { adminAccountRoutes } from './admin/accounts.ts';
import { actionRoutes } from './admin/actions.ts';
import { adjustmentRoutes } from './admin/adjustments.ts';
import { auditRoutes } from './admin/audit.ts';
import { caseRoutes } from './admin/cases.ts';
import { modelRoutes } from './admin/models.ts';
import { refundRoutes } from './admin/refunds.ts';
import { adminRequestRoutes } from './admin/requests.ts';
import { tokenRoutes } from './admin/tokens.ts';
import { adminTopUpRoutes } from './admin/top-ups.ts';
import type { ManagementDeps } from './deps.ts';
import { createErrorHandler } from './errors.ts';
import { keyRoutes } from './keys.ts';
import { logRoutes } from './logs.ts';
import { openApiDocument } from './openapi.ts';
import { registerRoutes } from './register.ts';
import { registerReturnPage } from './return-page.ts';
import type { Route } from './route.ts';
import { topUpRoutes } from './top-ups.ts';
import { usageRoutes } from './usage.ts';
import { registerWebhooks } from './webhooks/webhooks.ts';

export type { ManagementDeps, ManagementSettings, ManagementTemporal } from './deps.ts';

/** Every route of the management interface. */
export function managementRoutes(deps: ManagementDeps): Route[] {
  return [
    ...accountRoutes(deps),
    ...keyRoutes(deps),
    ...logRoutes(deps),
    ...usageRoutes(deps),
    ...topUpRoutes(deps),
    ...adminAccountRoutes(deps),
    ...adjustmentRoutes(deps),
    ...modelRoutes(deps),
    ...adminRequestRoutes(deps),
    ...refundRoutes(deps),
    ...caseRoutes(deps),
    ...auditRoutes(deps),
    ...tokenRoutes(deps),
    ...actionRoutes(deps),
    ...adminTopUpRoutes(deps),
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
  const document = openApiDocument(routes);
  app.get('/openapi.json', (_request, response) => void response.json(document));
  registerWebhooks(app, deps);
  registerReturnPage(app);
  registerRoutes(app, routes, deps);

  app.use(() => {
    throw new Refusal('not_found');
  });
  app.use(createErrorHandler(deps.logger));
  return app;
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
