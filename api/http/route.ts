/**
 * The form of a route: method, path, access, the schemas of input and output, and the handler. One
 * table of these both registers the routes and documents them (`/openapi.json`), so the document cannot lie.
 *
 * A path names its parameters as `{name}`; `{+name}` also takes slashes, as model ids have them.
 */
import { z } from 'zod';
import type { Writable } from 'node:stream';
import type { Logger } from 'pino';
import type { AccountUuid, RequestId, Uuid } from '../../domain/ids.ts';
import type { TokenScope } from '../../db/accounts/access-tokens.ts';
import type { Access, StaffRole } from './access.ts';

export interface JsonReply<Body> {
  readonly status: number;
  readonly body: Body;
  readonly headers?: Readonly<Record<string, string>>;
}

/** An answer that is written as it is produced. `write` begins only after it knows that the first part can be made. */
export interface StreamReply {
  readonly contentType: string;
  readonly fileName: string;
  readonly write: (output: Writable) => Promise<void>;
}

export type Reply<Body> = JsonReply<Body> | StreamReply;

/** The input of every handler. `params`, `query` and `body` are the output of the schemas. */
export interface Call<Params, Query, Body> {
  readonly params: Params;
  readonly query: Query;
  readonly body: Body;
  readonly requestId: RequestId;
  /** The caller for records: the token's name and id. */
  readonly actor: string;
  /** The token that calls. */
  readonly tokenId: Uuid<'token'>;
  /** Carries request id, actor and address in every line. */
  readonly log: Logger;
  readonly idempotency: Idempotency | null;
}

/** The `Idempotency-Key` of a call that moves money; a key belongs to the token that sent it. */
export interface Idempotency {
  readonly scope: string;
  readonly key: string;
  /** SHA-256 of method, path and body. */
  readonly bodyHash: Buffer;
}

export interface AccountCall<Params, Query, Body> extends Call<Params, Query, Body> {
  readonly accountId: AccountUuid;
}

export interface StaffCall<Params, Query, Body> extends Call<Params, Query, Body> {
  readonly role: StaffRole;
}

export const METHODS = ['get', 'post', 'put', 'patch', 'delete'] as const;
export type Method = (typeof METHODS)[number];

interface RouteText {
  readonly method: Method;
  readonly path: string;
  readonly summary: string;
  /** Statuses of success, for the document. Default 200. */
  readonly statuses?: readonly number[];
  /** True when `Idempotency-Key` is honoured. */
  readonly movesMoney?: boolean;
  /** True for what reads through the connections of reports, which few may do at once. */
  readonly isReport?: boolean;
}

/** A route with its types erased, as the table holds it. */
export interface Route extends Required<RouteText> {
  readonly access: Access;
  readonly params: z.ZodObject;
  readonly query: z.ZodObject;
  readonly body: z.ZodObject;
  readonly response: z.ZodType;
  readonly handle: (call: AccountCall<never, never, never> & StaffCall<never, never, never>) => Promise<Reply<unknown>>;
}

const NOTHING = z.strictObject({});
type Nothing = typeof NOTHING;

interface RouteShape<
  Params extends z.ZodObject,
  Query extends z.ZodObject,
  Body extends z.ZodObject,
  Response extends z.ZodType,
> extends RouteText {
  readonly params?: Params;
  readonly query?: Query;
  readonly body?: Body;
  readonly response: Response;
}

/** A route for customers: it acts on the caller's own account and on nothing else. */
export function accountRoute<
  Response extends z.ZodType,
  Params extends z.ZodObject = Nothing,
  Query extends z.ZodObject = Nothing,
  Body extends z.ZodObject = Nothing,
>(
  route: RouteShape<Params, Query, Body, Response> & {
    /** The scope that the caller's token needs. */
    scope: TokenScope;
    handle(call: AccountCall<z.output<Params>, z.output<Query>, z.output<Body>>): Promise<Reply<z.output<Response>>>;
  },
): Route {
  return { ...complete(route), access: { scope: route.scope } };
}

/** A route for staff of the given roles. */
export function staffRoute<
  Response extends z.ZodType,
  Params extends z.ZodObject = Nothing,
  Query extends z.ZodObject = Nothing,
  Body extends z.ZodObject = Nothing,
>(
  route: RouteShape<Params, Query, Body, Response> & {
    roles: readonly StaffRole[];
    handle(call: StaffCall<z.output<Params>, z.output<Query>, z.output<Body>>): Promise<Reply<z.output<Response>>>;
  },
): Route {
  return { ...complete(route), access: route.roles };
}

/** Fills in what a route left out. Its handler's types were checked where it was written; the table forgets them. */
function complete(
  route: RouteShape<z.ZodObject, z.ZodObject, z.ZodObject, z.ZodType> & {
    handle(call: AccountCall<never, never, never> & StaffCall<never, never, never>): Promise<Reply<unknown>>;
  },
): Omit<Route, 'access'> {
  return {
    method: route.method,
    path: route.path,
    summary: route.summary,
    statuses: route.statuses ?? [200],
    movesMoney: route.movesMoney ?? false,
    isReport: route.isReport ?? false,
    params: route.params ?? NOTHING,
    query: route.query ?? NOTHING,
    body: route.body ?? NOTHING,
    response: route.response,
    handle: (call) => route.handle(call),
  };
}

export const ok = <Body>(body: Body): JsonReply<Body> => ({ status: 200, body });
export const created = <Body>(body: Body): JsonReply<Body> => ({ status: 201, body });
export const accepted = <Body>(body: Body): JsonReply<Body> => ({ status: 202, body });
