/**
 * The dialects that the gateway speaks. A new one is a row here, one in each thread's program, and its path in
 * core/http/paths.ts.
 */
import type { DialectSet } from '../core/dialect.ts';
import { openAiChat } from './openai-chat/openai-chat.ts';

const ALL = [openAiChat] as const;

/** The programs of the threads have a row for each. */
export type DialectName = (typeof ALL)[number]['name'];

export const DIALECTS: DialectSet = {
  all: ALL,
  bodyThread: new URL('./body-thread.ts', import.meta.url),
  tokenThread: new URL('./token-thread.ts', import.meta.url),
};
