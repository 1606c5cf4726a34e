/**
 * Reading the body of `POST /v1/chat/completions`: what we must understand of it to price it. The body is scanned, not
 * built: the few fields that decide the price are read where they stand, and all others go on byte for byte.
 *
 * What comes out is plain data beside the bytes themselves, so that large bodies can be read in another thread.
 */
import { Refusal } from '../../../../domain/errors.ts';
import type { DialectRequest } from '../../core/dialect.ts';
import { invalid } from '../../core/refusals.ts';
import { ChatBody, type BodyMember, type Limits } from './body.ts';
import { decodeString, JsonError, JsonReader, type Span } from '../../core/bodies/json-scan.ts';

/** A chat request: what the gateway acts on, and what its body for an upstream is made of. */
export interface ChatRequest extends DialectRequest {
  /** The members of the body's object, in order. */
  readonly members: readonly BodyMember[];
  /** Whether the client asked for the usage chunk of a stream. */
  readonly wantsUsage: boolean;
  /** What its `stream_options` hold beside `include_usage`; null where it sent none. */
  readonly streamOptions: readonly Span[] | null;
  /** The limits per answer that the client set; `outputTokensMax` is the larger of them. */
  readonly limits: Limits;
}

/**
 * A schema of a thousand properties has some ten thousand values; a list of numbers as large as the body has millions.
 */
const BOUNDS = { depthMax: 2048, valuesMax: 250_000 } as const;

/** Parses and checks a body. Throws a Refusal that names the field. */
export function parseChatRequest(raw: Uint8Array): ChatRequest {
  const body = readBody(raw);
  const { max_tokens, max_completion_tokens } = body.limits;
  const { images, sounds, other, payloadBytes } = body.media;
  return {
    raw,
    members: body.members,
    model: body.model,
    stream: body.stream,
    wantsUsage: body.wantsUsage,
    streamOptions: body.streamOptions,
    answers: body.choices,
    limits: body.limits,
    outputTokensMax:
      max_tokens === null || max_completion_tokens === null
        ? (max_tokens ?? max_completion_tokens)
        : Math.max(max_tokens, max_completion_tokens),
    reasoningTokens: body.reasoningTokensMax,
    input: { images, sounds, other },
    output: { audio: body.modalities.audio || body.hasAudioSettings, image: body.modalities.image },
    webSearch: body.webSearch,
    predictionTokens: body.predictionTokens,
    bodyBytes: raw.length,
    payloadBytes,
    objections: [...body.objections.values()],
  };
}

function readBody(raw: Uint8Array): ChatBody {
  const body = new ChatBody();
  try {
    body.read(new JsonReader(raw, BOUNDS));
  } catch (error) {
    if (error instanceof JsonError) throw refusalOfJson(error, raw, body);
    throw error;
  }
  const problem = body.problem();
  if (problem !== null) throw problem;
  return body;
}

function refusalOfJson({ reason }: JsonError, raw: Uint8Array, { key }: ChatBody): Refusal {
  if (reason === 'syntax') return new Refusal('invalid_body', { message: 'The request body is not valid JSON.' });
  const bound =
    reason === 'depth'
      ? `is nested too deeply: more than ${BOUNDS.depthMax} levels`
      : `makes the body hold more than ${BOUNDS.valuesMax} values`;
  if (key === null) return new Refusal('invalid_body', { message: `The request body ${bound}.` });
  return invalid(shownName(decodeString(raw, key)), bound);
}

const NAME_SHOWN_CHARACTERS = 100;

/** A name of a field as an error repeats it: not of any length. */
function shownName(name: string): string {
  return name.length <= NAME_SHOWN_CHARACTERS ? name : name.slice(0, NAME_SHOWN_CHARACTERS);
}
