/**
 * The seam between the core, which admits, holds, calls, relays and finishes, and an API that clients speak. A dialect
 * reads and writes the JSON of its API; the core knows the name of no field of it
 * (test/unit/api/gateway/dialect-seam.test.ts).
 *
 * A dialect has no state: what a streamed answer must remember is in the AnswerStream that the dialect opens for it. A
 * request is plain data, so that another thread can read it, and is handed only to the dialect that has read it.
 */
import type { ErrorCode, Refusal } from '../../../domain/errors.ts';
import type { ImageDetail, ImageSize } from '../../../domain/requests/image-tokens.ts';
import type { PicoUsd } from '../../../domain/money.ts';
import type { PriceRow } from '../../../domain/requests/prices.ts';
import type { Reach } from '../../../domain/requests/rating.ts';
import type { ReportedUsage } from '../../../domain/usage/reported-usage.ts';
import type { Usage } from '../../../domain/usage/usage.ts';
import type { Model, Upstream } from '../../../db/requests/catalogue.ts';
import type { InferenceEndpoint } from './http/paths.ts';
import type { SseEvent } from './streams/sse.ts';
import type { ErrorReader } from './upstreams/upstream-failure.ts';

/** An API that clients speak, for one kind of request. */
export interface Dialect<Request extends DialectRequest = DialectRequest> extends ErrorReader {
  /** The name by which threads find its parts. */
  readonly name: string;
  readonly endpoint: InferenceEndpoint;
  /** The models that can be asked in it, by what their upstreams speak. */
  readonly upstreamDialect: Model['dialect'];

  /** Reads and checks a body. Throws a Refusal that names the field. Runs in a thread where the body is large. */
  parse(body: Uint8Array): Request;

  /** Throws `unsupported_parameter` for what the provider would charge and the model's price row has no price for. */
  checkPriced(request: Request, row: PriceRow): void;

  /** What of a request is bounded for a model that costs nothing. */
  freeAsks(request: Request): readonly FreeAsk[];

  /**
   * The most that the request can consume, with so many output tokens for each answer; never below what can be billed.
   */
  reach(request: Request, model: Model, outputPerAnswer: number): Reach;

  /**
   * What is sent to an upstream. `outputCap`: most output tokens per answer that there is money for; null where none
   * counts.
   */
  upstream(request: Request, target: { model: Model; upstream: Upstream; outputCap: number | null }): UpstreamMessage;

  /** What the client wrote in its body, for telling its words from the provider's. */
  said(request: Request): string;

  /** Reads a whole answer, the body under status 200. Never throws. */
  readAnswer(text: string): AnswerReading;

  /**
   * Opens the reading of a streamed answer. Absent where the API has no streams: its requests then never ask for one.
   */
  openStream?(request: Request, model: Model, meter: OutputSink): AnswerStream;

  /** A refusal as a JSON body. */
  error(refusal: Refusal): unknown;
}

/** What the core acts on of a request. A dialect may keep more beside it. */
export interface DialectRequest {
  /** The body as it was sent, decompressed. */
  readonly raw: Uint8Array;
  /** Its size in bytes. */
  readonly bodyBytes: number;
  /** How many of them are base64 of images, sounds and files. */
  readonly payloadBytes: number;
  /** The id of the model that was asked for. */
  readonly model: string;
  readonly stream: boolean;
  /** Number of answers asked for. */
  readonly answers: number;
  /** Most output tokens of an answer, as the client limits them; null where it does not. */
  readonly outputTokensMax: number | null;
  /** Tokens that the client grants for reasoning, which some providers do not count against the limit. */
  readonly reasoningTokens: number;
  /** Upper bound of tokens that a prediction can add to the output: rejected ones are billed. */
  readonly predictionTokens: number;
  /** What the body carries beside text. */
  readonly input: InputMedia;
  /** The media that were asked for beside text. */
  readonly output: { readonly audio: boolean; readonly image: boolean };
  readonly webSearch: boolean;
  /** What could change the price: each is refused unless the model's operator vouches for its field. */
  readonly objections: readonly Objection[];
}

/** Input that is no text. */
export interface InputMedia {
  readonly images: readonly ImageInput[];
  /** The length of each in seconds; null where it is not in the request or cannot be read from it. */
  readonly sounds: readonly (number | null)[];
  /** Whether there are files, video, references or whatever else may be of any length. */
  readonly other: boolean;
}

export interface ImageInput {
  /** Null where it is not in the request (an address) or cannot be read from it. */
  readonly size: ImageSize | null;
  readonly detail: ImageDetail;
}

/** Something that only a model can be asked whose operator vouches for `field`. */
export interface Objection {
  readonly field: string;
  /** Where it is: the field, or a place in it. */
  readonly param: string;
  readonly message: string;
}

/**
 * A bound of models that cost nothing, and the field that asks for more or less of it; null where the request has no
 * such field.
 */
export interface FreeAsk {
  readonly field: string;
  readonly value: number | null;
  readonly bound: 'answers' | 'outputTokens';
}

/** What goes to an upstream, beside credentials and the request's id. */
export interface UpstreamMessage {
  /** Appended to the upstream's base URL. */
  readonly path: string;
  readonly body: Buffer;
}

/** The output in one part of an answer. */
export interface ProducedOutput {
  /** In order; equal texts of one part are one, because providers send reasoning under two names at once. */
  readonly texts: readonly string[];
  /** Bytes of what is no text (audio, images, numbers): an upper bound of its tokens. */
  readonly otherBytes: number;
  /** True when part of it is audio, an image or another medium, whose tokens cannot be counted here. */
  readonly hasMedia: boolean;
}

/** Takes what an answer produces; null is nothing. */
export interface OutputSink {
  add(output: ProducedOutput | null): void;
}

/** What a client is told that its answer consumed and cost. */
export interface ClientUsage {
  readonly usage: Usage;
  /** True where it was counted here. */
  readonly estimated: boolean;
  /** What the provider has said; null where it said nothing. */
  readonly reported: ReportedUsage | null;
  readonly cost: PicoUsd;
}

export type AnswerReading =
  | { readonly kind: 'answer'; readonly answer: WholeAnswer }
  /** The provider says that it failed; `said` is what it says. */
  | { readonly kind: 'failure'; readonly said: unknown }
  /** No answer of this API, or one that could not be written again. */
  | { readonly kind: 'unreadable' };

/** An answer that is not streamed. */
export interface WholeAnswer {
  readonly usage: ReportedUsage | null;
  readonly outputs: readonly (ProducedOutput | null)[];
  /** The body for the client, under our name of the model and with our usage. */
  render(model: Model, used: ClientUsage): unknown;
}

/**
 * What an event of a stream was. `content` has output, `frame` has none: both are shown to the client as {@link
 * AnswerStream.render} writes them. A `comment` is passed on as it came. An `aside` is not for the client. After
 * `failure` the provider has said that it failed; `unreadable` is nothing that the API has.
 */
export type StreamStep = 'content' | 'frame' | 'comment' | 'aside' | 'failure' | 'unreadable';

/** What ends an answer before its model does: a limit of the money, of the request or of its time. */
export type CutReason = ErrorCode | 'output_limit' | 'request_timeout';

/**
 * A streamed answer as its dialect reads and writes it. An event is current until the next one is read: a chunk of a
 * stream is read, counted and written without an object of its own in between.
 */
export interface AnswerStream {
  /** Reads an event: adds its output to the meter, notes usage and ends. Never throws for what a provider can send. */
  read(event: SseEvent): StreamStep;
  /** The current event for the client. Only after `content` and `frame`. */
  render(): Buffer;
  /** What the provider said in the current event. Only after `failure`. */
  readonly failure: unknown;
  /** What has been reported so far. */
  readonly usage: ReportedUsage | null;
  /** True while an answer has ended: what follows without output may be the end of all, and is withheld. */
  readonly hasEnded: boolean;
  /** True once every answer that was asked for has ended, or the provider has said that nothing follows. */
  readonly isComplete: boolean;
  /** True once the provider has said that nothing follows. */
  readonly isOver: boolean;
  /**
   * The end of the stream for the client; `cutBy` says what ended answers that are still open, null where nothing did.
   */
  end(cutBy: CutReason | null, used: ClientUsage): Buffer[];
  /** An error inside a stream that has begun. */
  fail(refusal: Refusal): Buffer;
}

/** Reading the body of a request for its length in tokens. Loaded by the thread that counts. */
export interface PromptReader {
  /**
   * All strings of a body, parsed as JSON where it is, that may reach its model, in no particular order. Never throws.
   */
  stringsOf(body: unknown): Iterable<string>;
  /** Tokens of a request that no string stands for. */
  frameTokens(body: unknown): number;
}

/** The dialects of a gateway, and the programs of the threads that know their parts. */
export interface DialectSet {
  readonly all: readonly Dialect[];
  /** The program that reads large bodies: runs `parseBodies`. */
  readonly bodyThread: URL;
  /** The program that counts tokens: runs `countInThread`. */
  readonly tokenThread: URL;
}
