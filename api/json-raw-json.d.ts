/** `JSON.rawJSON` (ECMAScript "JSON.parse source text access", in Node since 22) is not in TypeScript's library yet. */
interface JSON {
  /** A value that `JSON.stringify` prints as exactly this text. */
  rawJSON(text: string): unknown;
}
