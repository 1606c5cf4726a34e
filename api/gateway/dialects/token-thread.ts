/** The program of the thread that counts tokens: what each dialect's models read of a body. */
import type { PromptReader } from '../core/dialect.ts';
import { countInThread } from '../core/tokens/token-thread.ts';
import type { DialectName } from './dialects.ts';
import { frameTokens, stringsOf } from './openai-chat/body-strings.ts';

countInThread({ 'openai-chat': { frameTokens, stringsOf } } satisfies Record<DialectName, PromptReader>);
