/** The program of the threads that read large bodies: the parsers of all dialects. */
import { parseBodies, type BodyParser } from '../core/bodies/body-thread.ts';
import type { DialectName } from './dialects.ts';
import { parseChatRequest } from './openai-chat/request.ts';

parseBodies({ 'openai-chat': parseChatRequest } satisfies Record<DialectName, BodyParser>);
