/**
 * The members of a chat request's body, read one after the other. Of a field that comes twice the last one counts, as
 * for `JSON.parse`: what was read of the one before is replaced, also what was wrong with it.
 *
 * What is of a wrong type is a problem, whatever the model. What could change the price is an objection: whether it
 * counts depends on the model, which is known only when the body has been read.
 */
import { Refusal } from '../../../../domain/errors.ts';
import {
  foldedName,
  isAlmostField,
  MEMBERS,
  MODALITIES,
  PASSED_FIELDS,
  READ_FIELDS,
  SERVICE_TIERS,
  TOOL_TYPES,
  type ReadField,
} from './fields.ts';
import { readMessages, type MessageMedia } from './messages.ts';
import type { Objection } from '../../core/dialect.ts';
import { invalid } from '../../core/refusals.ts';
import { decodeString, NameTable, type JsonReader, type JsonString, type Span } from '../../core/bodies/json-scan.ts';

/** A member of the body's object: where it is, for passing the body on with some members replaced. */
export interface BodyMember {
  /** Null for a field that is passed on unread, however often it comes. */
  readonly field: string | null;
  /** The quote before its key. */
  readonly start: number;
  readonly valueStart: number;
  readonly end: number;
  /** The same field comes again: this one does not count and does not go on. */
  isSuperseded: boolean;
}

/** Output tokens per answer as the client limits them; null where it does not. */
export interface Limits {
  readonly max_tokens: number | null;
  readonly max_completion_tokens: number | null;
}

const CHOICES_MAX = 128;
const TOKENS_MAX = 2 ** 31;
/** Several times the fields that there are. */
const MEMBERS_MAX = 1000;
/** No field has a longer name, nor can an operator vouch for one. */
const NAME_CHARACTERS_MAX = 100;

const KEPT_AT_PROVIDER =
  'refers to something that is kept at the provider, and nothing says that it is yours: send its content instead';

const READ_NAMES = new NameTable(READ_FIELDS);
const PASSED_NAMES = new NameTable(PASSED_FIELDS);
const STREAM_OPTIONS = new NameTable(MEMBERS.stream_options);
const TOOL_MEMBERS = new NameTable(MEMBERS.tools);
/** The members of fields that are objects of settings, and the one that grants tokens for reasoning. */
const SETTINGS = {
  audio: { names: new NameTable<string>(MEMBERS.audio), budget: null },
  web_search_options: { names: new NameTable<string>(MEMBERS.web_search_options), budget: null },
  reasoning: { names: new NameTable<string>(MEMBERS.reasoning), budget: 'max_tokens' },
  thinking: { names: new NameTable<string>(MEMBERS.thinking), budget: 'budget_tokens' },
  chat_template_kwargs: { names: new NameTable<string>(MEMBERS.chat_template_kwargs), budget: 'thinking_budget' },
} as const satisfies Partial<Record<ReadField, unknown>>;
const TIERS = new NameTable(SERVICE_TIERS);
const MODALITY_NAMES = new NameTable(MODALITIES);
const TOOL_TYPE_NAMES = new NameTable(TOOL_TYPES);

const NO_MEDIA: MessageMedia = { images: [], sounds: [], other: false, payloadBytes: 0, reference: null };

export class ChatBody {
  readonly members: BodyMember[] = [];
  readonly objections = new Map<string, Objection>();
  readonly limits: { -readonly [Field in keyof Limits]: Limits[Field] } = {
    max_tokens: null,
    max_completion_tokens: null,
  };
  /** Empty while there is none. */
  model = '';
  media = NO_MEDIA;
  hasMessages = false;
  stream = false;
  wantsUsage = false;
  /** The members of `stream_options` beside `include_usage`; null where there are no options. */
  streamOptions: Span[] | null = null;
  choices = 1;
  modalities = { audio: false, image: false };
  hasAudioSettings = false;
  webSearch = false;
  predictionTokens = 0;
  /** The key of the member that is being read; null before the first. */
  key: JsonString | null = null;
  /** Where each field that counts once was seen last. */
  readonly #last = new Map<string, BodyMember>();
  readonly #problems = new Map<ReadField, Refusal>();
  readonly #reasoningTokens = new Map<ReadField, number>();

  /** Reads the whole document. Throws a JsonError, or a Refusal of a body that is no object or has too many members. */
  read(reader: JsonReader): void {
    if (reader.peek() !== 'object') {
      reader.skip();
      reader.end();
      throw new Refusal('invalid_body', { message: 'The request body must be a JSON object.' });
    }
    reader.enter();
    while (reader.nextKey()) {
      if (this.members.length === MEMBERS_MAX)
        throw new Refusal('invalid_body', { message: `The request body has more than ${MEMBERS_MAX} fields.` });
      const { key, keyStart: start, position: valueStart } = reader;
      this.key = key;
      const field = this.#readMember(reader, key);
      const member = { field, start, valueStart, end: reader.position, isSuperseded: false };
      this.members.push(member);
      if (field === null) continue;
      const before = this.#last.get(field);
      if (before !== undefined) before.isSuperseded = true;
      this.#last.set(field, member);
    }
    reader.end();
  }

  /** What is wrong with the body, of the field that is listed first; null when nothing is. */
  problem(): Refusal | null {
    const problems = this.#problems;
    if (this.model === '' && !problems.has('model'))
      problems.set('model', invalid('model', 'must be a non-empty string'));
    if (!this.hasMessages && !problems.has('messages'))
      problems.set('messages', invalid('messages', 'must be a non-empty array'));
    if (this.streamOptions !== null && !this.stream && !problems.has('stream_options'))
      problems.set('stream_options', invalid('stream_options', 'is only allowed with stream: true'));
    const first = problems.size === 0 ? undefined : READ_FIELDS.find((field) => problems.has(field));
    return first === undefined ? null : problems.get(first)!;
  }

  /** The largest number of tokens that the client grants for reasoning. */
  get reasoningTokensMax(): number {
    return Math.max(0, ...this.#reasoningTokens.values());
  }

  /** Reads one member; its field, or null where it is passed on unread. */
  #readMember(reader: JsonReader, key: JsonString): string | null {
    const field = READ_NAMES.find(reader.bytes, key);
    if (field !== null) {
      this.#readField(reader, field);
      return field;
    }
    if (PASSED_NAMES.find(reader.bytes, key) !== null) {
      reader.skip();
      return null;
    }
    return this.#readUnknown(reader, decodeString(reader.bytes, key));
  }

  #readField(reader: JsonReader, field: ReadField): void {
    this.#problems.delete(field);
    this.objections.delete(field);
    this.#reasoningTokens.delete(field);
    const mark = reader.mark();
    try {
      this.#readValue(reader, field);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      this.#problems.set(field, error);
      reader.reset(mark);
      reader.skip();
    }
  }

  /**
   * A field that is absent, null or false asks for nothing, unless a server takes it for another one by ignoring case.
   */
  #readUnknown(reader: JsonReader, name: string): string | null {
    const isShort = name.length <= NAME_CHARACTERS_MAX;
    const field = isShort ? name : name.slice(0, NAME_CHARACTERS_MAX);
    if (isShort) this.objections.delete(field);
    const isSet = reader.readIsSet();
    if (isShort && isAlmostField(name)) this.#object(field, field, 'is not how this field is written');
    else if (isSet) this.#object(field, field, 'is not known here: it could change the price');
    return isShort ? name : null;
  }

  #object(field: string, param: string, message: string): void {
    if (!this.objections.has(field)) this.objections.set(field, { field, param, message });
  }

  #readValue(reader: JsonReader, field: ReadField): void {
    switch (field) {
      case 'model':
        if (reader.peek() !== 'string') throw invalid(field, 'must be a non-empty string');
        this.model = decodeString(reader.bytes, reader.readString());
        return;
      case 'messages':
        this.media = readMessages(reader);
        this.hasMessages = true;
        if (this.media.reference !== null) this.#object(field, this.media.reference, KEPT_AT_PROVIDER);
        return;
      case 'stream':
        this.stream = readBoolean(reader, field) ?? false;
        return;
      case 'stream_options':
        this.#readStreamOptions(reader);
        return;
      case 'n':
        this.choices = readInteger(reader, field, CHOICES_MAX) ?? 1;
        return;
      case 'max_tokens':
      case 'max_completion_tokens':
        this.limits[field] = readInteger(reader, field, TOKENS_MAX);
        return;
      case 'modalities':
        this.#readModalities(reader);
        return;
      case 'audio':
        this.hasAudioSettings = reader.peek() !== 'null';
        this.#readSettings(reader, field);
        return;
      case 'prediction': {
        const isSet = reader.peek() !== 'null';
        const { start, end } = reader.skip();
        this.predictionTokens = isSet ? end - start : 0;
        return;
      }
      case 'tools':
        this.#readTools(reader);
        return;
      case 'web_search_options':
        this.webSearch = reader.peek() !== 'null';
        this.#readSettings(reader, field);
        return;
      case 'service_tier':
        this.#readServiceTier(reader);
        return;
      case 'reasoning':
      case 'thinking':
      case 'chat_template_kwargs':
        this.#readSettings(reader, field);
        return;
      case 'thinking_budget':
      case 'thinking_token_budget':
      case 'max_thinking_tokens':
        this.#readReasoningTokens(reader, field);
        return;
    }
  }

  #readStreamOptions(reader: JsonReader): void {
    this.wantsUsage = false;
    this.streamOptions = null;
    if (reader.peek() === 'null') {
      reader.skip();
      return;
    }
    if (reader.peek() !== 'object') throw invalid('stream_options', 'must be an object');
    const others: Span[] = [];
    reader.enter();
    while (reader.nextKey()) {
      const start = reader.keyStart;
      const option = STREAM_OPTIONS.find(reader.bytes, reader.key);
      if (option === 'include_usage') {
        this.wantsUsage = readBoolean(reader, 'stream_options.include_usage') ?? false;
        continue;
      }
      if (option === null) this.#refuseMember(reader, 'stream_options', MEMBERS.stream_options);
      else reader.skip();
      others.push({ start, end: reader.position });
    }
    this.streamOptions = others;
  }

  #readModalities(reader: JsonReader): void {
    this.modalities = { audio: false, image: false };
    if (reader.peek() === 'null') {
      reader.skip();
      return;
    }
    if (reader.peek() !== 'array') throw invalid('modalities', 'must be an array');
    reader.enter();
    while (reader.nextItem()) {
      const modality = reader.readName(MODALITY_NAMES);
      if (modality === null) this.#object('modalities', 'modalities', `may only hold ${MODALITIES.join(', ')}`);
      else if (modality !== 'text') this.modalities[modality] = true;
    }
  }

  #readServiceTier(reader: JsonReader): void {
    if (reader.peek() === 'null') reader.skip();
    else if (reader.readName(TIERS) === null)
      this.#object('service_tier', 'service_tier', `may only be ${SERVICE_TIERS.join(' or ')}`);
  }

  #readTools(reader: JsonReader): void {
    if (reader.peek() === 'null') {
      reader.skip();
      return;
    }
    if (reader.peek() !== 'array') throw invalid('tools', 'must be an array');
    reader.enter();
    for (let index = 0; reader.nextItem(); index += 1) {
      const path = `tools[${index}]`;
      if (reader.peek() !== 'object') throw invalid(path, 'must be an object');
      let hasType = false;
      reader.enter();
      while (reader.nextKey()) {
        const member = TOOL_MEMBERS.find(reader.bytes, reader.key);
        if (member === 'type') {
          hasType = true;
          if (reader.readName(TOOL_TYPE_NAMES) === null) this.#refuseTool(path);
        } else if (member === null) {
          this.#refuseMember(reader, 'tools', MEMBERS.tools, path);
        } else {
          reader.skip();
        }
      }
      if (!hasType) this.#refuseTool(path);
    }
  }

  #refuseTool(path: string): void {
    this.#object('tools', `${path}.type`, 'may only be a tool that the client runs: function or custom');
  }

  /**
   * Reads an object of which some members cannot make a request dearer, and objects to others that are set. What is no
   * object is the provider's to judge.
   */
  #readSettings(reader: JsonReader, field: keyof typeof SETTINGS): void {
    if (reader.peek() !== 'object') {
      reader.skip();
      return;
    }
    const { names, budget } = SETTINGS[field];
    reader.enter();
    while (reader.nextKey()) {
      const member = names.find(reader.bytes, reader.key);
      if (member === null) this.#refuseMember(reader, field, MEMBERS[field]);
      else if (member === budget) this.#readReasoningTokens(reader, field);
      else reader.skip();
    }
  }

  /** Passes a member that is not among the known ones, and objects to it as to an unknown field. */
  #refuseMember(reader: JsonReader, field: ReadField, known: readonly string[], path: string = field): void {
    const name = decodeString(reader.bytes, reader.key).slice(0, NAME_CHARACTERS_MAX);
    const isAlmostKnown = known.some((member) => foldedName(member) === foldedName(name));
    if (reader.readIsSet() || isAlmostKnown)
      this.#object(field, `${path}.${name}`, 'is not known here: it could change the price');
  }

  /** A budget of 0, less than that, or in words grants nothing beside the limit on output. */
  #readReasoningTokens(reader: JsonReader, field: ReadField): void {
    if (reader.peek() !== 'number') {
      reader.skip();
      return;
    }
    const tokens = Math.min(Math.ceil(reader.readNumber()), TOKENS_MAX);
    this.#reasoningTokens.set(field, Math.max(tokens, this.#reasoningTokens.get(field) ?? 0));
  }
}

function readBoolean(reader: JsonReader, param: string): boolean | null {
  if (reader.peek() === 'boolean') return reader.readBoolean();
  if (reader.peek() !== 'null') throw invalid(param, 'must be a boolean');
  reader.skip();
  return null;
}

function readInteger(reader: JsonReader, param: string, most: number): number | null {
  if (reader.peek() === 'null') {
    reader.skip();
    return null;
  }
  const value = reader.peek() === 'number' ? reader.readNumber() : Number.NaN;
  if (!Number.isInteger(value) || value < 1 || value > most)
    throw invalid(param, `must be a whole number from 1 to ${most}`);
  return value;
}
