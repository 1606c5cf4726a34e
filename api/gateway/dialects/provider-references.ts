/**
 * Finding what a request refers to instead of carrying it: files, earlier spoken answers and other things that are kept
 * at the provider. All customers share the provider's account, and nothing there says whose a thing is: a caller that has its
 * id could read what somebody else has sent.
 *
 * OpenAI's `file_id` and `audio.id`, Anthropic's `source.file_id`, Gemini's `fileData.fileUri`, Moonshot's `ms://`, and
 * addresses in buckets that only the provider's account can read (`gs://`, `s3://`) or on the server itself
 * (`file://`).
 */
import { decodeString, type JsonReader, type JsonString } from '../core/bodies/json-scan.ts';

/** Names without regard to case, `_` and `-`: servers differ in them. */
const REFERENCES = new Set([
  'fileid',
  'fileids',
  'fileuri',
  'imageid',
  'audioid',
  'videoid',
  'mediaid',
  'assetid',
  'uploadid',
  'attachmentid',
  'attachmentids',
  'containerid',
  'vectorstoreid',
  'vectorstoreids',
  'itemreference',
  'previousresponseid',
]);
/** Fields that hold where something is, or the thing itself. */
const ADDRESSES = new Set([
  'url',
  'uri',
  'imageurl',
  'videourl',
  'audiourl',
  'fileurl',
  'filedata',
  'images',
  'videos',
]);
/** Objects that refer by a bare `id`. */
const REFERRED_BY_ID = new Set(['audio', 'file', 'image', 'video']);
/** What the model or the client wrote: a name in it refers to nothing. */
const WORDS = new Set([
  'text',
  'refusal',
  'toolcalls',
  'functioncall',
  'reasoning',
  'reasoningcontent',
  'reasoningdetails',
]);
const NAME_BYTES_MAX = 64;
const HEAD_BYTES_MAX = 200;
/** An error repeats the path, which is as long as its sender likes. */
const PATH_CHARACTERS_MAX = 200;

const SCHEME = /^\s*([a-z][a-z0-9+.-]+):/i;
const PUBLIC_SCHEMES = new Set(['http', 'https', 'data']);
/** The address of a file as Gemini's upload returns it, and ids as OpenAI and Anthropic write them. */
const KEPT_FILE = /^\s*(https?:\/\/generativelanguage\.googleapis\.com\/|files?[-_/][a-z0-9])/i;

/** True for an address of something that is kept at the provider, and not on the web or in the address itself. */
export function isProviderAddress(address: string): boolean {
  const scheme = SCHEME.exec(address)?.[1]?.toLowerCase();
  return KEPT_FILE.test(address) || (scheme !== undefined && !PUBLIC_SCHEMES.has(scheme));
}

/** Passes a value; where its first reference is, as the rest of a path (`[0].file.file_id`), null where it has none. */
export function findReference(reader: JsonReader): string | null {
  return find(reader, '')?.slice(0, PATH_CHARACTERS_MAX) ?? null;
}

/** `owner` is the folded name of the field whose value, or whose value's element, the reader stands before. */
function find(reader: JsonReader, owner: string): string | null {
  switch (reader.peek()) {
    case 'object':
      return findInObject(reader, owner);
    case 'array':
      return findInArray(reader, owner);
    case 'string': {
      const string = reader.readString();
      return ADDRESSES.has(owner) && isProviderAddress(headOf(reader.bytes, string)) ? '' : null;
    }
    default:
      reader.skip();
      return null;
  }
}

function findInObject(reader: JsonReader, owner: string): string | null {
  let found: string | null = null;
  reader.enter();
  while (reader.nextKey()) {
    const { key } = reader;
    const name = foldedKey(reader.bytes, key);
    if (found !== null || WORDS.has(name)) {
      reader.skip();
    } else if (REFERENCES.has(name) || (name === 'id' && REFERRED_BY_ID.has(owner))) {
      if (isThere(reader)) found = `.${decodeString(reader.bytes, key)}`;
    } else {
      const inside = find(reader, name);
      if (inside !== null) found = `.${headOf(reader.bytes, key)}${inside}`;
    }
  }
  return found;
}

function findInArray(reader: JsonReader, owner: string): string | null {
  let found: string | null = null;
  reader.enter();
  for (let index = 0; reader.nextItem(); index += 1) {
    if (found !== null) {
      reader.skip();
      continue;
    }
    const inside = find(reader, owner);
    if (inside !== null) found = `[${index}]${inside}`;
  }
  return found;
}

/** Passes a value; false for what refers to nothing: null, a boolean, `""`, `{}`, `[]`. */
function isThere(reader: JsonReader): boolean {
  const kind = reader.peek();
  const { start, end } = reader.skip();
  return kind === 'number' || (kind !== 'null' && kind !== 'boolean' && end - start > 2);
}

function foldedKey(document: Uint8Array, key: JsonString): string {
  if (key.end - key.start > NAME_BYTES_MAX) return '';
  return decodeString(document, key).toLowerCase().replaceAll(/[_-]/g, '');
}

/** The beginning of a string. */
function headOf(document: Uint8Array, string: JsonString): string {
  if (string.end - string.start <= HEAD_BYTES_MAX) return decodeString(document, string);
  const { buffer, byteOffset } = document;
  // A slash may be escaped, and nothing else need be in an address.
  return Buffer.from(buffer, byteOffset + string.start, HEAD_BYTES_MAX)
    .toString('latin1')
    .replaceAll('\\/', '/');
}
