/**
 * The catalogue: models, their upstreams and their price versions. Price versions are immutable; loading the catalogue
 * file adds what is missing and refreshes upstreams, it never changes a price that was published.
 */
import type pg from 'pg';
import { uuidOf, type RequestUuid } from '../../domain/ids.ts';
import type { ImageTokens } from '../../domain/requests/image-tokens.ts';
import {
  compilePrices,
  isPriceProblem,
  type PriceVersion,
  type PriceVersionText,
} from '../../domain/requests/prices.ts';
import { type Session, query, queryOne } from '../shared/client.ts';
import { pageOf, type Page, type PageRequest } from '../shared/page.ts';

export const DIALECTS = ['openai', 'anthropic'] as const;
export type Dialect = (typeof DIALECTS)[number];

/** Fields by which providers let the output be limited; `none` where one takes no limit. */
export const LIMIT_FIELDS = [
  'max_completion_tokens',
  'max_tokens',
  'max_output_tokens',
  'max_new_tokens',
  'none',
] as const;
export type LimitField = (typeof LIMIT_FIELDS)[number];

/** How a stream is asked for its usage: by `stream_options.include_usage`, or not at all. */
export const USAGE_REQUESTS = ['stream_options', 'none'] as const;
export type UsageRequest = (typeof USAGE_REQUESTS)[number];

export interface Upstream {
  /** Up to and including `/v1`. */
  readonly base_url: string;
  /** Name of the environment variable that holds the provider's key; null when the upstream wants none. */
  readonly api_key_env: string | null;
  /** The model's name at the upstream. */
  readonly model: string;
  /** URL with `{request_id}` that tells what a request consumed, or null where the upstream has no look-up. */
  readonly lookup: string | null;
  /**
   * The one field that limits the output here: a limit in another one is sent in this one. Absent: the client's fields
   * go on as they are, and what has to be added is added as `max_completion_tokens`.
   */
  readonly limit_field?: LimitField | undefined;
  /** Absent: `stream_options`. */
  readonly usage_request?: UsageRequest | undefined;
}

/** Properties of a model beyond its prices. Every default is the safe one for our money. */
export interface ModelTraits {
  /**
   * It may produce output that no chunk shows (reasoning, sound, images): its streams are held for like whole answers.
   */
  readonly hidden_output: boolean;
  /** How its images are counted; null: by the most expensive formula. */
  readonly image_tokens: ImageTokens | null;
  /** Input tokens of a second of sound; null: nobody knows, so the whole context. */
  readonly audio_tokens_per_second: number | null;
  /** Most input tokens that one web search adds; null: nobody knows, so the whole context. */
  readonly web_search_input_tokens: number | null;
  /** Fields unknown to the gateway that the operator vouches for: they go on, and do not change the price. */
  readonly passthrough_fields: readonly string[];
}

/** Traits as they are given: those left out keep their defaults. */
export type GivenTraits = { readonly [Trait in keyof ModelTraits]?: ModelTraits[Trait] | undefined };

const DEFAULT_TRAITS: ModelTraits = {
  hidden_output: true,
  image_tokens: null,
  audio_tokens_per_second: null,
  web_search_input_tokens: null,
  passthrough_fields: [],
};

/** A model as written in `models.json` and accepted by `POST /admin/models`. */
export interface CatalogueModel extends PriceVersionText, GivenTraits {
  readonly id: string;
  readonly dialect: Dialect;
  readonly context_length: number;
  readonly default_output_tokens: number;
  readonly request_timeout_seconds?: number;
  readonly upstreams: readonly Upstream[];
}

/** A price version as the gateway uses it. */
export interface PublishedVersion {
  readonly version: number;
  readonly validFrom: Date;
  readonly prices: PriceVersion;
}

export interface Model {
  readonly id: string;
  readonly dialect: Dialect;
  readonly contextLength: number;
  readonly defaultOutputTokens: number;
  readonly requestTimeoutSeconds: number;
  readonly upstreams: readonly Upstream[];
  readonly hiddenOutput: boolean;
  readonly imageTokens: ImageTokens | null;
  readonly audioTokensPerSecond: number | null;
  readonly webSearchInputTokens: number | null;
  readonly passthroughFields: readonly string[];
  readonly createdAt: Date;
  /** In force now or later, oldest first. */
  readonly versions: readonly PublishedVersion[];
}

/** Every model that is not retired, with compiled prices. */
export async function loadModels(pool: pg.Pool): Promise<Model[]> {
  const rows = await query<{
    id: string;
    dialect: Dialect;
    context_length: number;
    default_output_tokens: number;
    request_timeout_seconds: string;
    upstreams: Upstream[];
    traits: Partial<ModelTraits>;
    created_at: Date;
    versions: { version: number; valid_from: string; prices: PriceVersionText }[];
  }>(pool, { name: 'catalogue', text: 'select * from catalogue()', values: [] });
  return rows.map((row) => {
    const traits = { ...DEFAULT_TRAITS, ...row.traits };
    return {
      id: row.id,
      dialect: row.dialect,
      contextLength: row.context_length,
      defaultOutputTokens: row.default_output_tokens,
      requestTimeoutSeconds: Number(row.request_timeout_seconds),
      upstreams: row.upstreams,
      hiddenOutput: traits.hidden_output,
      imageTokens: traits.image_tokens,
      audioTokensPerSecond: traits.audio_tokens_per_second,
      webSearchInputTokens: traits.web_search_input_tokens,
      passthroughFields: traits.passthrough_fields,
      createdAt: row.created_at,
      versions: row.versions.map((version) => ({
        version: version.version,
        validFrom: new Date(version.valid_from),
        prices: compileStored(`${row.id}@${version.version}`, version.prices),
      })),
    };
  });
}

/** The version in force at `at`; null while a model has none. */
export function versionAt(model: Model, at: Date): PublishedVersion | null {
  return model.versions.findLast((version) => version.validFrom <= at) ?? null;
}

function compileStored(whose: string, text: PriceVersionText): PriceVersion {
  const compiled = compilePrices(text);
  if (isPriceProblem(compiled)) {
    throw new Error(`invariant broken: stored price ${whose} ${compiled.field} ${compiled.message}`);
  }
  return compiled;
}

/** The compiled prices of one version, for rating after the fact; null when there is no such version. */
export async function findPriceVersion(pool: pg.Pool, modelId: string, version: number): Promise<PriceVersion | null> {
  const row = await queryOne<{ prices: PriceVersionText | null }>(pool, {
    name: 'price_version_of',
    text: 'select price_version_of($1, $2) as prices',
    values: [modelId, version],
  });
  return row.prices === null ? null : compileStored(`${modelId}@${version}`, row.prices);
}

/**
 * The prices by which what a `:free` model gave away at `at` is booked; null where neither it nor its namesake has any.
 */
export async function findFreePrices(pool: pg.Pool, modelId: string, at: Date): Promise<PriceVersion | null> {
  const row = await queryOne<{ prices: PriceVersionText | null }>(pool, {
    name: 'free_prices',
    text: 'select free_prices($1, $2) as prices',
    values: [modelId, at],
  });
  return row.prices === null ? null : compileStored(modelId, row.prices);
}

/** The upstreams of a model, retired or not. */
export async function findUpstreams(pool: pg.Pool, modelId: string): Promise<readonly Upstream[]> {
  const row = await queryOne<{ upstreams: Upstream[] | null }>(pool, {
    name: 'upstreams_of',
    text: 'select upstreams_of($1) as upstreams',
    values: [modelId],
  });
  return row.upstreams ?? [];
}

/** Adds a model or refreshes everything of it but its prices. */
export async function saveModel(pool: pg.Pool, model: CatalogueModel): Promise<void> {
  await query(pool, {
    name: 'save_model',
    text: `insert into model (id, dialect, context_length, default_output_tokens, request_timeout_seconds, upstreams, traits)
      values ($1, $2, $3, $4, $5, $6, $7)
      on conflict (id) do update set dialect = excluded.dialect, context_length = excluded.context_length,
        default_output_tokens = excluded.default_output_tokens, request_timeout_seconds = excluded.request_timeout_seconds,
        upstreams = excluded.upstreams, traits = excluded.traits`,
    values: modelValues(model),
  });
}

/** Everything of a model but its prices. */
export type ModelSettings = Omit<CatalogueModel, keyof PriceVersionText>;

/** Settings in the order in which the statements that write them list their parameters. */
function modelValues(model: ModelSettings): unknown[] {
  return [
    model.id,
    model.dialect,
    model.context_length,
    model.default_output_tokens,
    model.request_timeout_seconds ?? 600,
    JSON.stringify(model.upstreams),
    JSON.stringify(traitsOf(model)),
  ];
}

/** The traits that are given; the others keep their defaults, also when those change. */
function traitsOf(model: GivenTraits): GivenTraits {
  const names = Object.keys(DEFAULT_TRAITS) as (keyof ModelTraits)[];
  return Object.fromEntries(names.filter((name) => model[name] !== undefined).map((name) => [name, model[name]]));
}

/** Adds a model without prices; false when the id is taken, by a retired model too. */
export async function createModel(session: Session, model: ModelSettings): Promise<boolean> {
  const rows = await query(session, {
    name: 'create_model',
    text: `insert into model (id, dialect, context_length, default_output_tokens, request_timeout_seconds, upstreams, traits)
      values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing returning id`,
    values: modelValues(model),
  });
  return rows.length === 1;
}

/**
 * Changes everything of a model but its prices; undefined leaves a field as it is. False when there is no such model.
 */
export async function updateModel(
  session: Session,
  id: string,
  change: { [Field in keyof Omit<ModelSettings, 'id'>]?: ModelSettings[Field] | undefined },
): Promise<boolean> {
  const rows = await query(session, {
    name: 'update_model',
    text: `update model set dialect = coalesce($2, dialect), context_length = coalesce($3, context_length),
        default_output_tokens = coalesce($4, default_output_tokens),
        request_timeout_seconds = coalesce($5, request_timeout_seconds), upstreams = coalesce($6, upstreams),
        traits = traits || $7
      where id = $1 returning id`,
    values: [
      id,
      change.dialect ?? null,
      change.context_length ?? null,
      change.default_output_tokens ?? null,
      change.request_timeout_seconds ?? null,
      change.upstreams === undefined ? null : JSON.stringify(change.upstreams),
      JSON.stringify(traitsOf(change)),
    ],
  });
  return rows.length === 1;
}

/** Retires a model (gateways stop offering it) or takes it back. False when it is unknown or in that state already. */
export async function setModelRetired(session: Session, id: string, retired: boolean): Promise<boolean> {
  const rows = await query(session, {
    name: 'set_model_retired',
    text: `update model set retired_at = case when $2 then now() end
      where id = $1 and (retired_at is not null) <> $2 returning id`,
    values: [id, retired],
  });
  return rows.length === 1;
}

/** A price version as it was published. */
export interface PriceVersionRecord {
  readonly version: number;
  readonly validFrom: Date;
  readonly prices: PriceVersionText;
  readonly createdAt: Date;
  readonly createdBy: string;
}

/** Findings of gateways about the counting of a model's upstream. */
export interface ModelFinding {
  readonly upstream: string;
  readonly finding: string;
  readonly requests: number;
  readonly firstAt: Date;
  readonly lastAt: Date;
  /** The request that showed it last. */
  readonly lastRequestId: RequestUuid;
}

/** Adds `requests` to what was found about an upstream of a model. */
export async function noteModelFinding(
  pool: pg.Pool,
  found: { modelId: string; upstream: string; finding: string; requests: number; requestId: RequestUuid },
): Promise<void> {
  await query(pool, {
    name: 'note_model_finding',
    text: 'select note_model_finding($1, $2, $3, $4, $5)',
    values: [found.modelId, found.upstream, found.finding, found.requests, found.requestId],
  });
}

/** A model with every price version it ever had, newest first. */
export interface ModelRecord extends Required<Omit<ModelSettings, keyof ModelTraits>> {
  readonly traits: ModelTraits;
  readonly createdAt: Date;
  readonly retiredAt: Date | null;
  readonly versions: readonly PriceVersionRecord[];
  /** The version in force at the moment of the statement; null while there is none. */
  readonly versionInForce: number | null;
  readonly findings: readonly ModelFinding[];
}

interface ModelRow {
  id: string;
  dialect: Dialect;
  context_length: number;
  default_output_tokens: number;
  request_timeout_seconds: string;
  upstreams: Upstream[];
  traits: Partial<ModelTraits>;
  created_at: Date;
  retired_at: Date | null;
  version_in_force: number | null;
  versions: { version: number; valid_from: string; prices: PriceVersionText; created_at: string; created_by: string }[];
  findings: {
    upstream: string;
    finding: string;
    requests: number;
    first_at: string;
    last_at: string;
    last_request_id: string;
  }[];
}

const SELECT_MODEL = `
  select m.id, m.dialect, m.context_length, m.default_output_tokens, m.request_timeout_seconds, m.upstreams, m.traits,
    m.created_at, m.retired_at,
    (select max(p.version) from price_version p where p.model_id = m.id and p.valid_from <= now()) as version_in_force,
    coalesce((
      select jsonb_agg(jsonb_build_object('version', p.version, 'valid_from', p.valid_from, 'prices', p.prices,
        'created_at', p.created_at, 'created_by', p.created_by) order by p.version desc)
      from price_version p where p.model_id = m.id
    ), '[]') as versions,
    coalesce((select jsonb_agg(f order by f.last_at desc) from model_finding f where f.model_id = m.id), '[]') as findings
  from model m`;

function toModelRecord(row: ModelRow): ModelRecord {
  return {
    id: row.id,
    dialect: row.dialect,
    context_length: row.context_length,
    default_output_tokens: row.default_output_tokens,
    request_timeout_seconds: Number(row.request_timeout_seconds),
    upstreams: row.upstreams,
    traits: { ...DEFAULT_TRAITS, ...row.traits },
    createdAt: row.created_at,
    retiredAt: row.retired_at,
    versionInForce: row.version_in_force,
    versions: row.versions.map((version) => ({
      version: version.version,
      validFrom: new Date(version.valid_from),
      prices: version.prices,
      createdAt: new Date(version.created_at),
      createdBy: version.created_by,
    })),
    findings: row.findings.map((found) => ({
      upstream: found.upstream,
      finding: found.finding,
      requests: found.requests,
      firstAt: new Date(found.first_at),
      lastAt: new Date(found.last_at),
      lastRequestId: uuidOf('request', found.last_request_id),
    })),
  };
}

/** A model, retired or not; null when there is none of that id. */
export async function findModel(session: Session, id: string): Promise<ModelRecord | null> {
  const [row] = await query<ModelRow>(session, {
    name: 'find_model',
    text: `${SELECT_MODEL} where m.id = $1`,
    values: [id],
  });
  return row === undefined ? null : toModelRecord(row);
}

/** `findModel` whose row nobody else changes until the transaction's end. */
export async function lockedModel(client: pg.PoolClient, id: string): Promise<ModelRecord | null> {
  await query(client, { name: 'lock_model', text: 'select from model where id = $1 for update', values: [id] });
  return findModel(client, id);
}

/** All models by id, retired ones too. */
export async function listModels(session: Session, page: PageRequest): Promise<Page<ModelRecord>> {
  const rows = await query<ModelRow>(session, {
    name: 'list_models',
    text: `${SELECT_MODEL} where $1::text is null or m.id > $1 order by m.id limit $2`,
    values: [page.after, page.limit + 1],
  });
  return pageOf(rows.map(toModelRecord), page.limit, (model) => model.id);
}

/** Which of these ids name a model, retired or not. */
export async function knownModelIds(session: Session, ids: readonly string[]): Promise<ReadonlySet<string>> {
  const rows = await query<{ id: string }>(session, {
    name: 'known_model_ids',
    text: 'select id from model where id = any ($1::text[])',
    values: [ids],
  });
  return new Set(rows.map((row) => row.id));
}

/**
 * Publishes a model's next price version. The first is in force at once; later ones need `leadSeconds` of notice.
 * Refuses `valid_from_too_soon`, `valid_from_not_after_last`, `not_found`.
 */
export async function publishPrices(
  session: Session,
  publication: { modelId: string; validFrom: Date | null; prices: PriceVersionText; leadSeconds: number; by: string },
): Promise<{ version: number; validFrom: Date }> {
  const row = await queryOne<{ version: number; valid_from: Date }>(session, {
    name: 'publish_price_version',
    text: 'select version, valid_from from publish_price_version($1, $2, $3, $4, $5)',
    values: [
      publication.modelId,
      publication.validFrom,
      JSON.stringify(publication.prices),
      publication.leadSeconds,
      publication.by,
    ],
  });
  return { version: row.version, validFrom: row.valid_from };
}

/** The price part of a catalogue entry. */
export function priceTextOf(model: PriceVersionText): PriceVersionText {
  const { prices, tiers, windows, reasoning_in_output } = model;
  return {
    prices,
    ...(tiers === undefined ? {} : { tiers }),
    ...(windows === undefined ? {} : { windows }),
    ...(reasoning_in_output === undefined ? {} : { reasoning_in_output }),
  };
}

/**
 * Loads a catalogue file: adds models that are missing with their first price version, refreshes the others' upstreams.
 */
export async function loadCatalogue(pool: pg.Pool, models: readonly CatalogueModel[]): Promise<void> {
  for (const model of models) {
    const compiled = compilePrices(priceTextOf(model));
    if (isPriceProblem(compiled)) throw new Error(`${model.id}: ${compiled.field} ${compiled.message}`);
    await saveModel(pool, model);
    const { count } = await queryOne<{ count: number }>(pool, {
      name: 'count_price_versions',
      text: 'select count(*)::int as count from price_version where model_id = $1',
      values: [model.id],
    });
    if (count === 0 && Object.keys(model.prices).length > 0) {
      await publishPrices(pool, {
        modelId: model.id,
        validFrom: null,
        prices: priceTextOf(model),
        leadSeconds: 0,
        by: 'catalogue',
      });
    }
  }
}
