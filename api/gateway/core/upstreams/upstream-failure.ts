/**
 * What a provider's failure means: which kind of problem it is for staff, and what the client is told. The client reads
 * the provider's own words and code where the error is about its request; never where it is about our account there.
 * The table of statuses is in docs/api.md.
 */
import type { Dispatcher } from 'undici';
import { ERRORS, Refusal } from '../../../../domain/errors.ts';
import type { UpstreamKind, UpstreamProblem } from '../../../../domain/requests/upstream-evidence.ts';
import { wordsForClient, wordsForStaff } from './provider-words.ts';
import { retryAfterOf, wholeSeconds } from './retry-after.ts';

/** A failure from both sides: the refusal for the client, the problem for staff. */
export interface UpstreamFailure {
  readonly refusal: Refusal;
  readonly problem: UpstreamProblem;
}

/** What a provider says of an error, as it was said; every part may be missing. */
export interface ProviderError {
  readonly message: string | null;
  /** Codes and reasons, the most exact first. */
  readonly codes: readonly string[];
  /** Classes of errors: most say only whose fault it was, some name it. */
  readonly types: readonly string[];
  /** The field of the request at fault. */
  readonly param: string | null;
  /** A status from 400 to 599 that the body names itself, as it must where the answer's own status is 200. */
  readonly status: number | null;
  /** True where the body says that the content was looked at and flagged, in more than words and codes. */
  readonly isFlagged: boolean;
  /** What the body says of the time to wait, in seconds. */
  readonly retryAfterSeconds: number | null;
}

/** Reads what providers say of errors. Judges nothing, and never throws. */
export interface ErrorReader {
  /** An error body of any form. Null when it says nothing that could be read. */
  readErrorBody(text: string): ProviderError | null;
  /** An error in parsed JSON: the body of an answer, or an event of a stream. Null when it says nothing. */
  readError(value: unknown): ProviderError | null;
}

/** Who reads an error, and what must not be shown: our keys to nobody, the request's text not to staff. */
export interface FailureContext {
  readonly reader: ErrorReader;
  readonly keys: readonly string[];
  readonly said: () => string;
}

const ERROR_BODY_MAX_BYTES = 64 * 1024;
/** How long the body of an error may take: its status is known, and the client waits. */
const ERROR_BODY_MAX_MS = 2000;

/** Reads an answer with an error status. Never throws for what a provider can send. */
export async function failureOfResponse(
  response: Dispatcher.ResponseData,
  context: FailureContext,
): Promise<UpstreamFailure> {
  const { statusCode, headers, body } = response;
  const error = context.reader.readErrorBody(await readLimited(body));
  const wait = retryAfterOf(headers, new Date()) ?? secondsOf(error);
  return failureOf({ httpStatus: statusCode, status: statusCode, error, wait }, context);
}

/** An error where an answer was promised: the body of a 200, or a chunk or event of a stream. */
export function failureInAnswer(value: unknown, context: FailureContext): UpstreamFailure {
  const error = context.reader.readError(value);
  const status = error?.status ?? statusByCode(error);
  return failureOf({ httpStatus: 200, status, error, wait: secondsOf(error) }, context);
}

/** An answer that is not what its interface promises. */
export function unreadableAnswer(): UpstreamFailure {
  const message = 'The model provider sent an unreadable answer. You were not charged.';
  return { refusal: new Refusal('upstream_failed', { message }), problem: plainProblem('unreadable', 200) };
}

/** An answer that ended well and has no content. */
export function emptyAnswer(): UpstreamFailure {
  const message = 'The model provider ended without an answer. You were not charged.';
  return { refusal: new Refusal('upstream_failed', { message }), problem: plainProblem('empty', 200) };
}

/** An answer that ended before it was over. */
export function unfinishedAnswer(): UpstreamFailure {
  return { refusal: new Refusal('upstream_failed'), problem: plainProblem('broken', 200) };
}

/**
 * A call that ended with an error of the connection, or by our own abort. `status` is that of the answer, if one had
 * begun.
 */
export function failureOfConnection(
  error: unknown,
  { signal, kind, status }: { signal: AbortSignal; kind: 'unreachable' | 'broken'; status: number | null },
): UpstreamFailure {
  if (signal.aborted && signal.reason === 'timeout') {
    return { refusal: new Refusal('upstream_timeout'), problem: plainProblem('timeout', status) };
  }
  const { code, message } =
    error instanceof Error ? (error as NodeJS.ErrnoException) : { code: undefined, message: '' };
  return {
    refusal: new Refusal('upstream_failed'),
    problem: {
      kind,
      status,
      code: code ?? null,
      message: message === '' ? null : wordsForStaff(message, [], ''),
    },
  };
}

/** A problem that its kind says all about. */
export function plainProblem(
  kind: UpstreamKind,
  status: number | null,
  message: string | null = null,
): UpstreamProblem {
  return { kind, status, code: null, message };
}

interface Answer {
  /** Of the HTTP answer. */
  readonly httpStatus: number;
  /** What counts: of the answer, or what its body names where that is 200. */
  readonly status: number;
  readonly error: ProviderError | null;
  readonly wait: number | null;
}

function failureOf(answer: Answer, context: FailureContext): UpstreamFailure {
  const { httpStatus, error } = answer;
  const kind = kindOf(answer);
  const message = error?.message ?? null;
  const words = message === null ? null : wordsForStaff(message, context.keys, context.said());
  const problem = { kind, status: httpStatus, code: staffCode(error), message: words };
  return { refusal: refusalOf(kind, answer, context.keys), problem };
}

/** Statuses that are about the request and that the client gets as they are. */
const PASSED_ON = [400, 404, 413, 415, 422];

function kindOf({ status, error }: Answer): UpstreamKind {
  const about = (pattern: RegExp): boolean => isAbout(error, pattern);
  const says = (pattern: RegExp): boolean => error?.message != null && pattern.test(error.message);
  const isBilling = about(BILLING_CODES) || says(BILLING_WORDS);
  const isModeration = isCertainModeration(error);
  switch (status) {
    case 402:
      return 'billing';
    case 401:
    case 407:
      return isBilling ? 'billing' : 'credentials';
    case 403:
      if (isModeration || (says(MODERATION_WORDS) && !says(CLOSED_ACCOUNT))) return 'moderation';
      return isBilling ? 'billing' : 'credentials';
    case 429:
    case 498: // Groq: the flex tier has no capacity.
      return isBilling ? 'billing' : 'rate_limited';
    case 400:
    case 404:
    case 410:
    case 413:
    case 415:
    case 422:
      if (isModeration) return 'moderation';
      if (isBilling) return 'billing';
      if (about(CREDENTIAL_CODES) || says(CREDENTIAL_WORDS)) return 'credentials';
      if (about(MODEL_CODES)) return 'unknown_model';
      if (status === 404 && (error?.message == null || says(NOTHING_HERE))) return 'wrong_path';
      return says(MODERATION_WORDS) ? 'moderation' : 'rejected';
    case 405:
      return 'wrong_path';
    default:
      if (status >= 300 && status < 400) return 'wrong_path';
      if (status < 300) return 'unreadable';
      if (about(BILLING_CODES)) return 'billing';
      return about(CREDENTIAL_CODES) ? 'credentials' : 'failed';
  }
}

function isAbout(error: ProviderError | null, pattern: RegExp): boolean {
  return error !== null && [...error.codes, ...error.types].some((code) => pattern.test(plain(code)));
}

function isCertainModeration(error: ProviderError | null): boolean {
  return error !== null && (error.isFlagged || isAbout(error, MODERATION_CODES));
}

/** The status of an error that came with 200 and names none. */
function statusByCode(error: ProviderError | null): number {
  if (isCertainModeration(error) || isAbout(error, CONTEXT_CODES) || isAbout(error, BAD_REQUEST_CODES)) return 400;
  if (isAbout(error, CREDENTIAL_CODES)) return 401;
  return isAbout(error, RATE_CODES) ? 429 : 502;
}

// Codes are compared without case and punctuation: `content_filter`, `ContentFilter` and `content-filter` are one.
const MODERATION_CODES =
  /contentfilter|contentpolicy|contentmoderation|moderationerror|moderationfailed|moderationblocked|responsibleai|datainspection|sensitivecontent|inappropriate|prohibitedcontent|guardrail|illegal(prompt|image)|^invalidprompt$|^(sensitive|safety|1301|1026|1027)$/;
const BILLING_CODES =
  /insufficient(quota|balance|credit|fund|user)|billing|arrear|paymentrequired|exceededcurrentquota|accountdeactivated|^(1008|3036)$/;
const CREDENTIAL_CODES =
  /apikey|unauthori[sz]ed|unauthenticated|^authentication|permissiondenied|^permissionerror|accessdenied|^(1004|2049)$/;
const MODEL_CODES =
  /modelnotfound|modelnotexist|unknownmodel|deploymentnotfound|modelnotopen|modeldecommissioned|^(5007|3042)$/;

const MODERATION_WORDS =
  /content (?:management|usage) polic|usage (?:guidelines|polic)|\bflagged\b|requires moderation|content[ _-]?filter|inappropriate content/i;
const CLOSED_ACCOUNT = /(?:account|organization|key)\b.{0,60}(?:suspend|deactivat|disabl|block|bann|terminat)/is;
const BILLING_WORDS =
  /credit balance is too low|insufficient (?:account )?(?:balance|credits?|funds|quota)|exceeded your current quota|plans? (?:&|and) billing|out of credits|account.{0,40}(?:good standing|arrears|overdue)|余额不足|欠费/i;
const CREDENTIAL_WORDS =
  /(?:incorrect|invalid|missing|expired|no|not found)\b.{0,12}\bapi[ _-]?key|api[ _-]?key\b.{0,20}(?:not valid|invalid|expired|missing|required)/i;
/** What servers say of a path that they do not know. */
const NOTHING_HERE =
  /^(?:404\b.*|not found\.?|page not found\.?|no route.*|cannot post .*|invalid url.*|unknown (?:request )?url.*|the requested url.*|endpoint not found.*|no handler.*|resource not found\.?)$/is;
/** SDK users look for one code; several providers send another one, or only words. */
const CONTEXT_CODES = /^(exceedcontextsize(error)?|contextlengthexceeded|contextwindowexceeded(error)?)$/;
const CONTEXT_WORDS =
  /maximum context length|maximum model length|context (?:length|size|window)\b.{0,60}exceed|exceeds?\b.{0,60}context (?:length|size|window)|prompt is too long|input token count.{0,40}exceeds/is;

const BAD_REQUEST_CODES = /^(invalidrequest(error)?|badrequest(error)?|invalidargument)$/;
const RATE_CODES = /ratelimit|toomanyrequests|resourceexhausted/;
/** Codes that say no more than the status does. */
const GENERIC_CODES =
  /^(\d+|error|apierror|(invalid|bad)request(error)?|badrequestexception|invalidargument|validationerror|validationexception|unprocessableentity(error)?|notfound(error)?|requesterror|upstreamerror|providererror|unknown|none|null)$/;

function plain(code: string): string {
  return code.toLowerCase().replace(/[^a-z0-9]/g, '');
}

/** The most telling code, cut to what a row may hold. */
function staffCode(error: ProviderError | null): string | null {
  const codes = [...(error?.codes ?? []), ...(error?.types ?? [])];
  const telling = codes.find((code) => !GENERIC_CODES.test(plain(code)));
  return (telling ?? codes.find((code) => !/^\d+$/.test(code)) ?? codes[0] ?? null)?.slice(0, 64) ?? null;
}

function refusalOf(kind: UpstreamKind, { status, error, wait }: Answer, keys: readonly string[]): Refusal {
  const words = error?.message == null ? null : wordsForClient(error.message, keys);
  switch (kind) {
    case 'rejected':
      return new Refusal('upstream_rejected', {
        status: PASSED_ON.includes(status) ? status : 404,
        message: words ?? `The model provider answered ${status}.`,
        ...clientCode(error),
        ...(error?.param == null ? {} : { param: error.param }),
      });
    case 'moderation':
      return new Refusal('upstream_rejected', {
        // Elsewhere 403 is about keys and money: refused content is a bad request, as with OpenAI and Azure.
        status: PASSED_ON.includes(status) ? status : 400,
        message: moderationWords(status, error, words),
        shownCode: 'content_filter',
        ...moderationCode(error),
      });
    case 'unknown_model':
    case 'wrong_path':
      if (!PASSED_ON.includes(status)) break;
      return new Refusal('upstream_rejected', { status, message: `The model provider answered ${status}.` });
    case 'rate_limited':
      return new Refusal('upstream_rate_limited', wait === null ? {} : { retryAfterSeconds: wait });
    default:
      break;
  }
  return new Refusal('upstream_failed', wait === null ? {} : { retryAfterSeconds: wait });
}

/** A 403 that only its words tell from one about our account may name that account, so it is put in ours. */
function moderationWords(status: number, error: ProviderError | null, words: string | null): string {
  const mayPass = status !== 403 || isCertainModeration(error);
  return mayPass && words !== null ? words : 'The model provider refused the content of this request.';
}

/** The provider's code, unless it says nothing, or says what only we can say. */
function clientCode(error: ProviderError | null): { shownCode?: string } {
  const shown = error?.codes.find(isForClient);
  const isUnnamed = shown === undefined && error?.message != null;
  if (isAbout(error, CONTEXT_CODES) || (isUnnamed && CONTEXT_WORDS.test(error.message))) {
    return { shownCode: 'context_length_exceeded' };
  }
  return shown === undefined ? {} : { shownCode: shown };
}

function moderationCode(error: ProviderError | null): { shownCode?: string } {
  const codes = [...(error?.codes ?? []), ...(error?.types ?? [])];
  const shown = codes.find((code) => isForClient(code) && MODERATION_CODES.test(plain(code)));
  return shown === undefined ? {} : { shownCode: shown };
}

function isForClient(code: string): boolean {
  return /^[A-Za-z][\w.-]{1,63}$/.test(code) && !GENERIC_CODES.test(plain(code)) && !(code in ERRORS);
}

function secondsOf(error: ProviderError | null): number | null {
  return error?.retryAfterSeconds == null ? null : wholeSeconds(error.retryAfterSeconds);
}

/** The beginning of an error body; what breaks, is too long or too slow changes nothing about the error. */
async function readLimited(body: Dispatcher.ResponseData['body']): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  const timer = setTimeout(() => body.destroy(), ERROR_BODY_MAX_MS);
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      chunks.push(chunk);
      size += chunk.length;
      if (size > ERROR_BODY_MAX_BYTES) break;
    }
  } catch {
    // Broken or cut above.
  } finally {
    clearTimeout(timer);
  }
  return Buffer.concat(chunks).toString('utf8');
}
