/**
 * A request that may be served: who asks which model for what, and how it is paid. Nothing is held for it yet: an
 * Admission is no HeldRequest, and only a held request reaches an upstream.
 */
import type { RequestUuid } from '../../../domain/ids.ts';
import type { Tier } from '../../../domain/requests/prices.ts';
import type { Model } from '../../../db/requests/catalogue.ts';
import type { Dialect, DialectRequest } from './dialect.ts';
import type { Caller } from './keys/keys.ts';

/** By which prices a request is rated: those in force when it arrived. */
export interface Rates {
  readonly tiers: readonly Tier[];
  /** Whether the reported output contains the tokens of reasoning. */
  readonly reasoningInOutput: boolean;
}

/** The customer pays, by a published version of the model's prices. */
export interface Priced {
  readonly kind: 'priced';
  readonly version: number;
  readonly rates: Rates;
}

/** The customer pays nothing, whatever it costs the platform: a `:free` model. */
export interface Free {
  readonly kind: 'free';
  /** Most output tokens of an answer. */
  readonly outputCap: number;
  /** By which the platform books what it gives away; null where nothing prices the model. */
  readonly rates: Rates | null;
}

/** A request that may be served, once its price is held. */
export interface Admission {
  readonly uuid: RequestUuid;
  readonly caller: Caller;
  /** Has read `request`, and writes its answer. */
  readonly dialect: Dialect;
  readonly request: DialectRequest;
  readonly model: Model;
  readonly price: Priced | Free;
  /** `performance.now()` when the request arrived. */
  readonly arrivedAt: number;
}

/** Who asks what, before it is known whether it may be served. */
export type Asked = Omit<Admission, 'model' | 'price'>;

/** What is known of a call before its body was read. */
export type Call = Omit<Asked, 'request'>;
