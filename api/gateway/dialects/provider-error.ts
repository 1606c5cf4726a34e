/**
 * Reading what a model provider says about an error. No two agree on the shape: OpenAI's `{"error": {"message"}}`,
 * FastAPI's `{"detail": [{"loc", "msg"}]}`, Google's `[{"error": …}]`, Cloudflare's `{"errors": […]}`, AWS's
 * `{"__type", "message"}`, MiniMax's `{"base_resp"}`, problem details, JSON inside strings, plain text, web pages. Only
 * the fields named here are read: others hold the customer's input (`input`, `flagged_input`, `ctx`). Judges nothing;
 * see upstream-failure.ts.
 */
import type { ErrorReader, ProviderError } from '../core/upstreams/upstream-failure.ts';

/** Only the beginning of what a provider says is looked at. */
const WORDS_MAX_CHARACTERS = 2000;
const TEXT_MAX_CHARACTERS = 10 * WORDS_MAX_CHARACTERS;
/** Errors of a list that are shown. */
const LISTED_MAX = 5;
/** JSON in JSON in strings: deeper than any provider nests, and a bound for one that means harm. */
const DEPTH_MAX = 8;

/** What no words have: a compressed body, or another encoding. */
const NO_TEXT = /[\u0000-\u0008\u000e-\u001f\ufffd]/;
const CODE = /^[\w.:#/-]{1,80}$/;
/** Fields whose text is words, best first. */
const WORD_FIELDS = [
  'message',
  'error_message',
  'errorMessage',
  'error_msg',
  'status_msg',
  'msg',
  'detail',
  'error_description',
  'description',
  'title',
] as const;
/** Fields that name an error, most exact first, and those that name its class. */
const CODE_FIELDS = ['code', 'error_code', 'status_code', '__type', 'reason', 'status', 'httpStatus'] as const;
const TYPE_FIELDS = ['type', 'error_type'] as const;
/** Fields that hold another error inside. */
const INNER_FIELDS = ['error', 'errors', 'base_resp', 'response'] as const;
/** Fields that may hold an HTTP status. */
const STATUS_FIELDS = ['code', 'status', 'status_code', 'statusCode', 'httpCode'] as const;
const FIELDS: ReadonlySet<string> = new Set([
  ...WORD_FIELDS,
  ...CODE_FIELDS,
  ...TYPE_FIELDS,
  ...INNER_FIELDS,
  ...STATUS_FIELDS,
  'metadata',
  'details',
  'innererror',
  'loc',
  'param',
]);
/** An error that another party's words carry along as JSON. */
const EMBEDDED = /\{\s*"(?:error|errors|detail)"\s*:/;
/** Words that say only that a third party failed; its own are inside then. */
const SAYS_NOTHING = /^(provider returned error|upstream error|error|bad request|unknown error)\.?$/i;

const NOTHING: ProviderError = {
  message: null,
  codes: [],
  types: [],
  param: null,
  status: null,
  isFlagged: false,
  retryAfterSeconds: null,
};

/** The reader of an API whose answers stand in the list `answersField`, where each may hold an error of its own. */
export function errorReader(answersField: string): ErrorReader {
  return {
    readErrorBody: (text) => {
      const body = withoutEventFraming(text.replace(/^\uFEFF/, '').trim());
      const parsed = parseJson(body);
      if (parsed === undefined && NO_TEXT.test(body)) return null;
      return readError(parsed === undefined ? body : parsed, answersField);
    },
    readError: (value) => readError(value, answersField),
  };
}

function readError(value: unknown, answersField: string): ProviderError | null {
  const error = read(value, { depth: 0, answersField });
  if (error.message === null && error.codes.length === 0 && error.types.length === 0) return null;
  return error.status === null ? { ...error, status: statusOfBaseResponse(value) } : error;
}

/** Some providers send the error of a stream as an event also where its status already says that there is no stream. */
function withoutEventFraming(text: string): string {
  const data = /^(?:event:[^\n]*\n)?data:\s*([^\n]+)/.exec(text);
  return data === null ? text : data[1]!;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

/** Where something is read. */
interface Place {
  readonly depth: number;
  readonly answersField: string;
}

function deeper({ depth, answersField }: Place): Place {
  return { depth: depth + 1, answersField };
}

function read(value: unknown, at: Place): ProviderError {
  if (at.depth > DEPTH_MAX) return NOTHING;
  if (typeof value === 'string') return readText(value, at);
  if (Array.isArray(value)) return readList(value, at);
  return typeof value === 'object' && value !== null ? readObject(value, at) : NOTHING;
}

/** Words, the title of a web page, or JSON in a string: whole, or behind the words of a party that passed it on. */
function readText(whole: string, at: Place): ProviderError {
  const text = whole.slice(0, TEXT_MAX_CHARACTERS);
  if (/^\s*<(!doctype|html|head|\?xml)/i.test(text)) {
    const title = /<title[^<>]*>([^<]{1,200})/i.exec(text)?.[1]?.trim() ?? '';
    return title === '' ? NOTHING : { ...NOTHING, message: title };
  }
  const start = /^\s*[{[]/.test(text) ? 0 : text.search(EMBEDDED);
  if (start !== -1) {
    const inner = parseJson(text.slice(start, Math.max(text.lastIndexOf('}'), text.lastIndexOf(']')) + 1));
    const error = inner === undefined ? NOTHING : read(inner, deeper(at));
    if (error.message !== null || (inner !== undefined && start === 0)) return error;
  }
  const words = text.trim().slice(0, WORDS_MAX_CHARACTERS);
  return words === '' ? NOTHING : { ...NOTHING, message: words };
}

function readList(values: readonly unknown[], at: Place): ProviderError {
  const errors = values.slice(0, LISTED_MAX).map((value) => read(value, deeper(at)));
  const messages = errors.flatMap(({ message }) => (message === null ? [] : [message]));
  return {
    message: messages.length === 0 ? null : messages.join('; ').slice(0, WORDS_MAX_CHARACTERS),
    codes: errors.flatMap(({ codes }) => codes),
    types: errors.flatMap(({ types }) => types),
    param: errors.find(({ param }) => param !== null)?.param ?? null,
    status: errors.find(({ status }) => status !== null)?.status ?? null,
    isFlagged: errors.some(({ isFlagged }) => isFlagged),
    retryAfterSeconds: errors.find((error) => error.retryAfterSeconds !== null)?.retryAfterSeconds ?? null,
  };
}

function readObject(object: object, at: Place): ProviderError {
  const fields = fieldsOf(object, at.answersField);
  const inner = [...INNER_FIELDS.map((name) => fields.get(name)), ...errorsOfAnswers(fields, at.answersField)].filter(
    isMeaningful,
  );
  const nested = inner.filter((value) => typeof value !== 'string').map((value) => read(value, deeper(at)));
  const words = WORD_FIELDS.map((name) => fields.get(name))
    .filter(isMeaningful)
    .map((value) => read(value, deeper(at)));
  // `{"error": "text"}` is words, `{"error": "name", "message": "text"}` a name.
  const texts = inner.filter((value) => typeof value === 'string').map((value) => read(value, deeper(at)));
  const metadata = readMetadata(fields.get('metadata'), at);
  const details = readDetails(fields.get('details'));
  const parts = [metadata, ...nested, ...words, ...texts];
  const message = best(parts.map((part) => part.message));
  return {
    message: message === null ? null : located(message, fields.get('loc')),
    codes: [
      ...[...nested, ...words].flatMap((part) => part.codes),
      ...CODE_FIELDS.flatMap((name) => codesOf(fields.get(name))),
      ...texts.flatMap((part) => (part.message !== message ? codesOf(part.message) : [])),
      ...metadata.codes,
      ...details.codes,
      ...codesOf((fields.get('innererror') as { code?: unknown } | null | undefined)?.code),
    ],
    types: [
      ...[...nested, ...words, metadata].flatMap((part) => part.types),
      ...TYPE_FIELDS.flatMap((name) => codesOf(fields.get(name))),
    ],
    param:
      textOf(fields.get('param')) ??
      paramOf(fields.get('loc')) ??
      parts.find(({ param }) => param !== null)?.param ??
      null,
    status: statusOf(fields) ?? parts.find(({ status }) => status !== null)?.status ?? null,
    isFlagged: parts.some(({ isFlagged }) => isFlagged),
    retryAfterSeconds:
      details.retryAfterSeconds ?? parts.find((part) => part.retryAfterSeconds !== null)?.retryAfterSeconds ?? null,
  };
}

/** AWS and others write the same names with capitals. Looked up by name: an object may have any number of others. */
function fieldsOf(object: object, answersField: string): Map<string, unknown> {
  const values = object as Record<string, unknown>;
  const fields = new Map<string, unknown>();
  for (const name of [...FIELDS, answersField]) {
    const written = [name, name[0]!.toUpperCase() + name.slice(1)].find((candidate) =>
      Object.hasOwn(values, candidate),
    );
    if (written !== undefined) fields.set(name, values[written]);
  }
  return fields;
}

/**
 * OpenRouter puts an error into the answer that it ended. Nothing else of an answer is read: the rest is what it says.
 */
function errorsOfAnswers(fields: ReadonlyMap<string, unknown>, answersField: string): unknown[] {
  const answers = fields.get(answersField);
  if (!Array.isArray(answers)) return [];
  return answers.slice(0, LISTED_MAX).map((answer) => (answer as { error?: unknown } | null)?.error);
}

/** An empty list of errors, `false`, `null` and `{}` stand in answers that are none. */
function isMeaningful(value: unknown): boolean {
  if (value === undefined || value === null || value === false || value === '') return false;
  if (typeof value !== 'object') return true;
  for (const _ in value) return true;
  return false;
}

/** The first words that say something, else the first words. */
function best(messages: readonly (string | null)[]): string | null {
  const words = messages.filter((message) => message !== null);
  return words.find((message) => !SAYS_NOTHING.test(message)) ?? words[0] ?? null;
}

/** OpenRouter's: the error of the provider behind it, or why the content was refused. */
function readMetadata(value: unknown, at: Place): ProviderError {
  if (typeof value !== 'object' || value === null) return NOTHING;
  const { raw, reasons, flagged_input: flagged, error_type: type } = value as Record<string, unknown>;
  const error = isMeaningful(raw) ? read(raw, deeper(at)) : NOTHING;
  const isFlagged = error.isFlagged || typeof flagged === 'string' || (Array.isArray(reasons) && reasons.length > 0);
  return { ...error, codes: [...error.codes, ...codesOf(type)], isFlagged };
}

/** Google's: reasons (`API_KEY_INVALID`), and after which time to ask again (`"17s"`). */
function readDetails(value: unknown): { codes: string[]; retryAfterSeconds: number | null } {
  const details = Array.isArray(value) ? (value.slice(0, LISTED_MAX) as unknown[]) : [];
  const objects = details.filter((detail) => typeof detail === 'object' && detail !== null) as Record<
    string,
    unknown
  >[];
  const delay = objects
    .map(({ retryDelay }) => /^(\d{1,6}(?:\.\d+)?)s$/.exec(String(retryDelay)))
    .find((match) => match !== null);
  return {
    codes: objects.flatMap(({ reason }) => codesOf(reason)),
    retryAfterSeconds: delay === undefined ? null : Number(delay[1]),
  };
}

function codesOf(value: unknown): string[] {
  if (typeof value !== 'string' && typeof value !== 'number') return [];
  const code = String(value);
  return CODE.test(code) ? [code] : [];
}

/** FastAPI says where in the request: `["body", "messages", 0, "content"]`. */
function paramOf(loc: unknown): string | null {
  if (!Array.isArray(loc)) return null;
  const path = loc.filter((part, index) => !(index === 0 && part === 'body')).map(String);
  return path.length === 0 ? null : path.join('.').slice(0, 200);
}

function located(message: string, loc: unknown): string {
  const path = paramOf(loc);
  return path === null ? message : `${path}: ${message}`;
}

function textOf(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value.slice(0, 200) : null;
}

function statusOf(fields: ReadonlyMap<string, unknown>): number | null {
  const named = STATUS_FIELDS.map((name) => Number(fields.get(name) ?? Number.NaN));
  return named.find((status) => Number.isInteger(status) && status >= 400 && status <= 599) ?? null;
}

/** MiniMax answers 200 and numbers its errors. */
const BASE_RESPONSE_STATUS: Readonly<Record<number, number>> = {
  1002: 429,
  1039: 429,
  1004: 401,
  2049: 401,
  1008: 402,
  1026: 400,
  1027: 400,
  2013: 400,
};

function statusOfBaseResponse(value: unknown): number | null {
  const code = (value as { base_resp?: { status_code?: unknown } | null } | null)?.base_resp?.status_code;
  return typeof code === 'number' ? (BASE_RESPONSE_STATUS[code] ?? null) : null;
}
