/**
 * The most that a request of text and media can consume at a model: what its hold is computed from. Never below what
 * the provider can bill: text by its bytes, since a token is at least one; images by the vendors' formulas; the whole
 * context for what has no bound.
 */
import { Refusal } from '../../../../domain/errors.ts';
import { imageTokensMax } from '../../../../domain/requests/image-tokens.ts';
import type { Reach } from '../../../../domain/requests/rating.ts';
import type { Model } from '../../../../db/requests/catalogue.ts';
import type { AskedUnits } from '../../../../db/requests/requests.ts';
import type { DialectRequest } from '../dialect.ts';

/** Output tokens that a stream holds at first; it grows before they are used up. */
export const STREAM_SLICE_TOKENS = 4096;
/** The smallest slice worth starting a stream for: a paragraph, which the customer then gets for the money left. */
export const STREAM_LEAST_TOKENS = 256;

/** Text is at most this long per token of the context: longer words and runs of blanks are split. */
const TEXT_BYTES_PER_TOKEN = 12;
/** Settings, schemas and spaces, which a small context must leave room for as well. */
const TEXT_BYTES_MARGIN = 64 * 1024;

/** The most bytes that a body for this model may have beside the base64 of images, sounds and files. */
export function textBytesMax(model: Pick<Model, 'contextLength'>): number {
  return model.contextLength * TEXT_BYTES_PER_TOKEN + TEXT_BYTES_MARGIN;
}

/**
 * Throws `body_too_large` for a text that the model's context cannot hold by far: nobody should read it for nothing.
 */
export function checkBodySize(request: DialectRequest, model: Model): void {
  const most = textBytesMax(model);
  if (request.bodyBytes - request.payloadBytes <= most) return;
  throw new Refusal('body_too_large', {
    message: `The text of the request is larger than the ${most} bytes that the model "${model.id}" takes.`,
  });
}

/**
 * Upper bound of the input tokens that the text of the body does not account for: images, sounds, files, and what web
 * searches add. Also what an estimate bills for them where the provider reports no usage.
 */
export function nonTextInputTokens({ input, webSearch, answers }: DialectRequest, model: Model): number {
  // A file may be of any length, and nobody publishes a bound for what a search finds: they may fill the context.
  if (input.other || (webSearch && model.webSearchInputTokens === null)) return model.contextLength;
  let tokens = webSearch ? (model.webSearchInputTokens ?? 0) * answers : 0;
  for (const image of input.images) tokens += imageTokensMax(model.imageTokens, image);
  for (const seconds of input.sounds) tokens += soundTokensMax(model, seconds);
  return Math.min(tokens, model.contextLength);
}

/**
 * Vendors count a sound by the second (OpenAI 10 tokens, Gemini 32, Qwen 25); a second that has begun counts as a whole
 * one.
 */
function soundTokensMax(model: Model, seconds: number | null): number {
  if (seconds === null || model.audioTokensPerSecond === null) return model.contextLength;
  return (Math.floor(seconds) + 1) * model.audioTokensPerSecond;
}

/** What is charged per answer or per search: no provider reports it, so it is as the body asks for it. */
export function askedUnits({ answers, webSearch }: DialectRequest): AskedUnits {
  return { furtherAnswers: answers - 1, webSearches: webSearch ? answers : 0 };
}

/** What a request can reach, with `outputPerAnswer` output tokens for each of its answers. */
export function reachOf(request: DialectRequest, model: Model, outputPerAnswer: number): Reach {
  const { input, output } = request;
  const textBytes = request.bodyBytes - request.payloadBytes;
  return {
    inputTokens: Math.min(textBytes + nonTextInputTokens(request, model), model.contextLength),
    outputTokens: outputPerAnswer * request.answers + request.predictionTokens,
    audioInput: input.sounds.length > 0 || input.other,
    imageInput: input.images.length > 0 || input.other,
    audioOutput: output.audio,
    imageOutput: output.image,
    images: 0,
    seconds: 0,
    ...askedUnits(request),
  };
}

/**
 * Most output tokens per answer that the upstream is asked for: what the client allowed, else the model's default for
 * answers that cannot grow their hold while they are seen.
 */
export function askedOutputTokens(request: DialectRequest, model: Model): number {
  const growsInSight = request.stream && !model.hiddenOutput;
  const limit = request.outputTokensMax ?? (growsInSight ? model.contextLength : model.defaultOutputTokens);
  return Math.min(limit, model.contextLength);
}

/**
 * Most output tokens per answer that can be billed: as many as are asked for, and the client's budget for reasoning,
 * which some providers do not count against the limit; the whole context where an upstream takes no limit.
 */
export function outputLimit(request: DialectRequest, model: Model): number {
  if (model.upstreams.some(({ limit_field }) => limit_field === 'none')) return model.contextLength;
  return Math.min(askedOutputTokens(request, model) + request.reasoningTokens, model.contextLength);
}
