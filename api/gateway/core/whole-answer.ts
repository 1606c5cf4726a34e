/**
 * Reading an answer that is not streamed: the whole body, then what its dialect finds in it. Like the stream relay it
 * reports how the answer ended and leaves money to others.
 */
import type { Dispatcher } from 'undici';
import type { Refusal } from '../../../domain/errors.ts';
import type { WholeAnswer } from './dialect.ts';
import type { Ending } from './endings/ending.ts';
import { endOfAbort } from './endings/ends.ts';
import { failureContext, reportedOutputTokens, type HeldRequest } from './held-request.ts';
import type { OutputMeter } from './holds/output-meter.ts';
import { failureInAnswer, failureOfConnection, unreadableAnswer } from './upstreams/upstream-failure.ts';
import type { AbortReason } from './upstreams/upstream.ts';

const ANSWER_BYTES_MAX = 64 * 1024 * 1024;

/** How a whole answer ended, before anything is rated. */
export interface WholeEnd extends Ending {
  /** Null when there is none to pass on. */
  readonly answer: WholeAnswer | null;
  /** What the client is told instead of the answer; null when that is passed on. */
  readonly refusal: Refusal | null;
}

/** Reads until the upstream ends or `signal` aborts. Never throws for what an upstream can do. */
export async function readWholeAnswer(
  response: Dispatcher.ResponseData,
  { held, meter, signal }: { held: HeldRequest; meter: OutputMeter; signal: AbortSignal },
): Promise<WholeEnd> {
  // What was produced and never read is known to nobody here.
  const unread = { answer: null, reportedUsage: null, produced: meter, work: 'unseen' as const };
  let text: string;
  try {
    text = await readText(response.body);
  } catch (error) {
    if (signal.aborted) return { ...unread, ...endOfAbort(signal.reason as AbortReason) };
    const failure = failureOfConnection(error, { signal, kind: 'broken', status: 200 });
    return { ...unread, outcome: 'upstream_error', ...failure };
  }
  const reading = held.dialect.readAnswer(text);
  switch (reading.kind) {
    case 'failure':
      return { ...unread, outcome: 'upstream_error', ...failureInAnswer(reading.said, failureContext(held)) };
    case 'unreadable':
      return { ...unread, outcome: 'upstream_error', ...unreadableAnswer() };
    case 'answer':
      return endOf(reading.answer, held, meter);
  }
}

function endOf(answer: WholeAnswer, held: HeldRequest, meter: OutputMeter): WholeEnd {
  for (const output of answer.outputs) meter.add(output);
  const isEmpty = !meter.sawContent && reportedOutputTokens(answer.usage, held) === 0;
  return {
    answer,
    reportedUsage: answer.usage,
    produced: meter,
    work: 'shown',
    outcome: isEmpty ? 'empty_completion' : 'completed',
    refusal: null,
  };
}

async function readText(body: Dispatcher.ResponseData['body']): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    size += chunk.length;
    if (size > ANSWER_BYTES_MAX) throw new Error('the answer is larger than 64 MiB');
  }
  return Buffer.concat(chunks).toString('utf8');
}
