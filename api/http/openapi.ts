/** The OpenAPI document, made from the route table and its schemas. */
import { z } from 'zod';
import { ERRORS } from '../../domain/errors.ts';
import { isForCustomers } from './access.ts';
import type { Route } from './route.ts';

type Json = Readonly<Record<string, unknown>>;

const ERROR_SCHEMA: Json = {
  type: 'object',
  required: ['error'],
  properties: {
    error: {
      type: 'object',
      required: ['message', 'type', 'param', 'code'],
      properties: {
        message: { type: 'string' },
        type: { type: 'string' },
        param: { type: ['string', 'null'], description: 'The field or parameter at fault.' },
        code: { type: 'string', enum: Object.keys(ERRORS) },
      },
    },
  },
};

/** The document of all routes, OpenAPI 3.1. */
export function openApiDocument(routes: readonly Route[]): Json {
  const paths: Record<string, Record<string, Json>> = {};
  for (const route of routes) {
    const path = route.path.replaceAll('{+', '{');
    paths[path] = { ...paths[path], [route.method]: operation(route) };
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Holdfast management',
      version: '1',
      description:
        'Money is a decimal USD string with 12 decimals in a field ending `_usd`; times are RFC 3339; ids are prefixed. ' +
        'Every response has `x-request-id`. Unknown fields and parameters are refused with 422.',
    },
    paths,
    components: {
      securitySchemes: { token: { type: 'http', scheme: 'bearer', description: 'Management token `hft-…`.' } },
      schemas: { Error: ERROR_SCHEMA },
      responses: {
        Error: {
          description: 'Refused; `code` says why.',
          content: { 'application/json': { schema: { $ref: '#/components/schemas/Error' } } },
        },
      },
    },
    security: [{ token: [] }],
  };
}

function operation(route: Route): Json {
  const body = jsonSchema(route.body);
  const hasBody = Object.keys(route.body.shape).length > 0;
  return {
    summary: route.summary,
    description: isForCustomers(route.access)
      ? `For account tokens with the scope \`${route.access.scope}\`.`
      : `For roles: ${route.access.join(', ')}.`,
    parameters: [
      ...parameters(route.params, 'path'),
      ...parameters(route.query, 'query'),
      ...(route.movesMoney ? [IDEMPOTENCY_PARAMETER] : []),
    ],
    ...(hasBody
      ? { requestBody: { required: isRequired(body), content: { 'application/json': { schema: body } } } }
      : {}),
    responses: {
      ...Object.fromEntries(route.statuses.map((status) => [status, success(route)])),
      default: { $ref: '#/components/responses/Error' },
    },
  };
}

const IDEMPOTENCY_PARAMETER: Json = {
  name: 'Idempotency-Key',
  in: 'header',
  required: false,
  schema: { type: 'string', minLength: 1, maxLength: 255 },
  description: 'The same key with the same body returns the same response for 24 hours; with another body 422.',
};

function success(route: Route): Json {
  const schema = jsonSchema(route.response);
  const contentType = typeof schema['contentMediaType'] === 'string' ? schema['contentMediaType'] : 'application/json';
  return { description: 'Done.', content: { [contentType]: { schema } } };
}

function parameters(schema: z.ZodObject, where: 'path' | 'query'): Json[] {
  const { properties = {}, required = [] } = jsonSchema(schema) as {
    properties?: Record<string, Json>;
    required?: string[];
  };
  return Object.entries(properties).map(([name, property]) => ({
    name,
    in: where,
    required: required.includes(name),
    schema: property,
  }));
}

function isRequired(schema: Json): boolean {
  return Array.isArray(schema['required']) && schema['required'].length > 0;
}

/** The JSON schema of a body as sent or received, before any transformation of ours. */
function jsonSchema(schema: z.ZodType): Json {
  const document: Record<string, unknown> = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' });
  delete document['$schema'];
  return document;
}
