/**
 * Reading the messages of a chat request: not what they say, but which kinds of input they carry beside text, how large
 * their images are and how long their sounds. Anything else counts as input of unknown length.
 *
 * Where a key comes twice, servers differ in which one they take; all of them count here.
 */
import { IMAGE_DETAILS, type ImageDetail } from '../../../../domain/requests/image-tokens.ts';
import type { ImageInput } from '../../core/dialect.ts';
import { invalid } from '../../core/refusals.ts';
import { imageSize } from '../../core/media/image-size.ts';
import { decodeString, NameTable, type JsonReader, type JsonString } from '../../core/bodies/json-scan.ts';
import { findReference, isProviderAddress } from '../provider-references.ts';
import { soundSeconds } from '../../core/media/sound-length.ts';

/** What messages carry beside text. */
export interface MessageMedia {
  readonly images: ImageInput[];
  /** The length of each in seconds; null where it is not in the request or cannot be read from it. */
  readonly sounds: (number | null)[];
  /** Files, video, references and whatever else may be of any length. */
  other: boolean;
  /** Bytes of the body that are base64 of an image, a sound or a file. */
  payloadBytes: number;
  /** The path of the first thing that is kept at the provider and only referred to; null where there is none. */
  reference: string | null;
}

const MESSAGE_FIELDS = new NameTable([
  'role',
  'content',
  'audio',
  'annotations',
  // Text of earlier answers, and what says how it is to be used.
  'name',
  'tool_calls',
  'tool_call_id',
  'function_call',
  'refusal',
  'reasoning',
  'reasoning_content',
  'reasoning_details',
  'prefix',
  'partial',
  'weight',
  'cache_control',
]);

const PART_FIELDS = new NameTable([
  'type',
  'text',
  'refusal',
  'image_url',
  'input_audio',
  'file',
  'video_url',
  'audio_url',
  'cache_control',
  'prompt_cache_breakpoint',
]);

const PART_TYPES = new NameTable(['text', 'refusal', 'image_url', 'input_audio']);
const IMAGE_FIELDS = new NameTable(['url', 'detail']);
const DETAILS = new NameTable(IMAGE_DETAILS);
const TYPE_FIELD = new NameTable(['type']);
const URL_CITATION = new NameTable(['url_citation']);

/** Reads the value of `messages`. Throws a Refusal that names what is wrong. */
export function readMessages(reader: JsonReader): MessageMedia {
  if (reader.peek() !== 'array') throw invalid('messages', 'must be a non-empty array');
  const media: MessageMedia = { images: [], sounds: [], other: false, payloadBytes: 0, reference: null };
  const begin = reader.mark();
  let index = 0;
  reader.enter();
  while (reader.nextItem()) {
    readMessage(reader, `messages[${index}]`, media);
    index += 1;
  }
  if (index === 0) throw invalid('messages', 'must be a non-empty array');
  // What is only referred to was found to be of unknown length; all else need not be read again.
  if (media.other || media.sounds.includes(null)) {
    reader.reset(begin);
    const path = findReference(reader);
    if (path !== null) media.reference = `messages${path}`;
  }
  return media;
}

function readMessage(reader: JsonReader, path: string, media: MessageMedia): void {
  if (reader.peek() !== 'object') throw invalid(path, 'must be an object');
  let hasRole = false;
  reader.enter();
  while (reader.nextKey()) {
    switch (MESSAGE_FIELDS.find(reader.bytes, reader.key)) {
      case 'role':
        if (reader.peek() !== 'string') throw invalid(`${path}.role`, 'must be a string');
        hasRole = true;
        reader.skip();
        break;
      case 'content':
        readContent(reader, `${path}.content`, media);
        break;
      case 'audio':
        // An earlier spoken answer is referred to by id: its length is unknown here.
        if (reader.peek() !== 'null') media.sounds.push(null);
        reader.skip();
        break;
      case 'annotations':
        readAnnotations(reader, media);
        break;
      case null:
        if (mayRefer(reader)) media.other = true;
        break;
      default:
        reader.skip();
    }
  }
  if (!hasRole) throw invalid(`${path}.role`, 'must be a string');
}

/** Passes the value of a field that we do not know; whether it can stand for input that is not in the body. */
function mayRefer(reader: JsonReader): boolean {
  const kind = reader.peek();
  const { start, end } = reader.skip();
  switch (kind) {
    case 'null':
    case 'boolean':
    case 'number':
      return false;
    case 'string':
    case 'object':
    case 'array':
      // Nothing can be referred to by "", {} or [].
      return end - start > 2;
  }
}

function readContent(reader: JsonReader, path: string, media: MessageMedia): void {
  const kind = reader.peek();
  if (kind === 'string' || kind === 'null') {
    reader.skip();
    return;
  }
  if (kind !== 'array') throw invalid(path, 'must be a string or an array of parts');
  let index = 0;
  reader.enter();
  while (reader.nextItem()) {
    readPart(reader, `${path}[${index}]`, media);
    index += 1;
  }
}

function readPart(reader: JsonReader, path: string, media: MessageMedia): void {
  if (reader.peek() !== 'object') throw invalid(path, 'must be an object');
  let type: 'text' | 'refusal' | 'image_url' | 'input_audio' | null = null;
  let types = 0;
  let image: ImageInput | null = null;
  let images = 0;
  let sound: number | null = null;
  let sounds = 0;
  let isKnown = true;
  reader.enter();
  while (reader.nextKey()) {
    switch (PART_FIELDS.find(reader.bytes, reader.key)) {
      case 'type':
        types += 1;
        type = reader.readName(PART_TYPES);
        break;
      case 'image_url':
        images += 1;
        image = readImage(reader, media);
        break;
      case 'input_audio':
        sounds += 1;
        sound = readSound(reader, media);
        break;
      case 'file':
      case 'video_url':
      case 'audio_url':
        isKnown = false;
        passPayload(reader, media);
        break;
      case null:
        if (reader.readIsSet()) isKnown = false;
        break;
      default:
        reader.skip();
    }
  }
  // A part that says two things at once may be read as either.
  const isOneThing = isKnown && types === 1 && images + sounds <= 1;
  if (isOneThing && type === 'image_url' && image !== null) media.images.push(image);
  else if (isOneThing && type === 'input_audio' && sounds === 1) media.sounds.push(sound);
  else if (!(isOneThing && (type === 'text' || type === 'refusal') && images + sounds === 0)) media.other = true;
}

/** Reads the value of `image_url`; null when it may be more than one image. */
function readImage(reader: JsonReader, media: MessageMedia): ImageInput | null {
  if (reader.peek() === 'string') return imageAt(reader.bytes, reader.readString(), 'original', media);
  if (reader.peek() !== 'object') {
    reader.skip();
    return null;
  }
  let url: JsonString | null = null;
  let detail: ImageDetail | null = null;
  let isKnown = true;
  reader.enter();
  while (reader.nextKey()) {
    const field = IMAGE_FIELDS.find(reader.bytes, reader.key);
    if (field === 'url' && url === null && reader.peek() === 'string') {
      url = reader.readString();
    } else if (field === 'detail' && detail === null && reader.peek() === 'string') {
      detail = DETAILS.find(reader.bytes, reader.readString()) ?? 'original';
    } else if (reader.readIsSet()) {
      // The same field again, one of a wrong type, or one that other servers know: it may ask for more pixels.
      isKnown = false;
    }
  }
  const image = url === null ? null : imageAt(reader.bytes, url, detail ?? 'original', media);
  return isKnown ? image : null;
}

const DATA_URL = /^data:(?:([a-z]+)\/[a-z0-9.+-]+)?(?:;[a-z0-9.+=-]+)*;base64,/i;
/** Longer than the head of any data URL that software writes. */
const HEAD_BYTES_MAX = 200;
const WEB_ADDRESS = /^https?:\/\//i;

/** What an address of an image stands for; null when that may be something else than an image. */
function imageAt(document: Uint8Array, url: JsonString, detail: ImageDetail, media: MessageMedia): ImageInput | null {
  const { text, start, end } = plainText(document, url);
  const head = headOf(text, start, end);
  if (isProviderAddress(head)) return null;
  if (WEB_ADDRESS.test(head)) return { size: null, detail };
  const match = DATA_URL.exec(head);
  if (match === null) return null;
  media.payloadBytes += end - start - match[0].length;
  if (match[1]?.toLowerCase() !== 'image') return null;
  return { size: imageSize(text, start + match[0].length, end), detail };
}

function headOf(text: Uint8Array, start: number, end: number): string {
  const bytes = Buffer.from(text.buffer, text.byteOffset + start, Math.min(end - start, HEAD_BYTES_MAX));
  return bytes.toString('latin1');
}

/** A string's text as bytes: the document's own, or a decoded copy where it has escapes. */
function plainText(document: Uint8Array, string: JsonString): { text: Uint8Array; start: number; end: number } {
  if (!string.isEscaped) return { text: document, start: string.start, end: string.end };
  const text = Buffer.from(decodeString(document, string));
  return { text, start: 0, end: text.length };
}

const SOUND_FIELDS = new NameTable(['data', 'format']);

/** Reads the value of `input_audio`: how many seconds it lasts; null where that may be any number. */
function readSound(reader: JsonReader, media: MessageMedia): number | null {
  if (reader.peek() !== 'object') {
    reader.skip();
    return null;
  }
  let data: JsonString | null = null;
  let isKnown = true;
  reader.enter();
  while (reader.nextKey()) {
    const field = SOUND_FIELDS.find(reader.bytes, reader.key);
    if (field === 'data' && data === null && reader.peek() === 'string') data = reader.readString();
    else if (field === 'format') reader.skip();
    else if (reader.readIsSet()) isKnown = false;
  }
  if (data === null) return null;
  const { text, start, end } = plainText(reader.bytes, data);
  const from = start + (DATA_URL.exec(headOf(text, start, end))?.[0].length ?? 0);
  media.payloadBytes += end - from;
  return isKnown ? soundSeconds(text, from, end) : null;
}

/** Passes an object that holds a file; its longest string is the payload. */
function passPayload(reader: JsonReader, media: MessageMedia): void {
  if (reader.peek() !== 'object') {
    reader.skip();
    return;
  }
  let longest = 0;
  reader.enter();
  while (reader.nextKey()) {
    const isText = reader.peek() === 'string';
    const { start, end } = reader.skip();
    if (isText) longest = Math.max(longest, end - start - 2);
  }
  media.payloadBytes += longest;
}

/** Sources that an earlier answer named are text; annotations of other types may hold whole files. */
function readAnnotations(reader: JsonReader, media: MessageMedia): void {
  if (reader.peek() !== 'array') {
    if (mayRefer(reader)) media.other = true;
    return;
  }
  reader.enter();
  while (reader.nextItem()) {
    if (reader.peek() !== 'object') {
      reader.skip();
      continue;
    }
    let citations = 0;
    let types = 0;
    reader.enter();
    while (reader.nextKey()) {
      if (TYPE_FIELD.find(reader.bytes, reader.key) === null) {
        reader.skip();
        continue;
      }
      types += 1;
      if (reader.readName(URL_CITATION) !== null) citations += 1;
    }
    if (citations === 0 || citations !== types) media.other = true;
  }
}
