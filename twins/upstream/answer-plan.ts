/** The plan of an answer: the request as it was read, and everything that is decided before the first byte. */
import type { JsonObject } from '../kit/input.ts';
import type { ErrorCarrier } from './faults.ts';
import type { FinishForm } from './finish.ts';
import type { Framing, Insertion, Position } from './framing.ts';
import type { Segment } from './output/segments.ts';
import type { AcceptedWork } from './requests.ts';
import type { Steering } from './steering.ts';
import type { TokenCounts } from './token-counts.ts';
import type { UsagePlace } from './usage/shape.ts';

/** A request for an answer, read from whichever dialect it came in. */
export interface Ask {
  readonly model: string;
  readonly stream: boolean;
  /** Whether the client wants usage in the stream; whole answers always carry it. */
  readonly wantsUsage: boolean;
  /** How many answers (`n`). */
  readonly choices: number;
  readonly promptTokens: number;
  /** The fields that bound the output, by name, the decisive one first. */
  readonly maxima: Readonly<Partial<Record<'max_completion_tokens' | 'max_tokens', number>>>;
  /** The function that must be called instead of writing text. */
  readonly toolName: string | null;
  readonly wantsLogprobs: boolean;
  readonly seed: number;
  readonly steering: Partial<Steering>;
  readonly body: JsonObject;
}

/** Where an answer breaks, and how. */
export interface Cut {
  readonly at: Position;
  readonly how: 'error' | 'eof' | 'reset' | 'hang';
  /** The error's body. */
  readonly text: string;
  readonly carrier: ErrorCarrier;
}

/** Silence in the middle of an answer, which then goes on. */
export interface Pause {
  readonly at: Position;
  readonly ms: number;
}

export type FinishReason = 'stop' | 'length' | 'tool_call';

export interface Timing {
  readonly headersAtMs: number;
  /** When the paced token `index` of each choice is due. */
  readonly tokenAtMs: (index: number) => number;
  readonly endAtMs: number;
}

/** A report of usage: JSON members of the chunk or answer, and of its choice. */
export interface UsageMembers {
  readonly top: string;
  readonly choice: string;
}

export interface PlannedUsage {
  readonly place: UsagePlace;
  readonly members: (counts: TokenCounts) => UsageMembers;
}

/** All times count from the moment the whole request was read. */
export interface AnswerPlan {
  readonly work: AcceptedWork;
  /** The model the answer names, which a fault can make another one. */
  readonly shownModel: string;
  readonly stream: boolean;
  readonly wantsUsage: boolean;
  readonly choices: number;
  readonly toolName: string;
  readonly wantsLogprobs: boolean;
  readonly seed: number;
  readonly segments: readonly Segment[];
  readonly finishReason: FinishReason;
  readonly finish: FinishForm;
  readonly usage: readonly PlannedUsage[];
  readonly timing: Timing;
  readonly cut: Cut | null;
  readonly pauses: readonly Pause[];
  readonly insertions: readonly Insertion[];
  /** Errors that the answer passes over. */
  readonly passingErrors: readonly Cut[];
  readonly garbageAfter: number | null;
  readonly framing: Framing;
  readonly steering: Steering;
}
