/** The scanner of bodies: it accepts what `JSON.parse` accepts, within its bounds, and tells where every value is. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { decodeString, JsonError, JsonReader, NameTable } from '../../../../../../api/gateway/core/bodies/json-scan.ts';

const BOUNDS = { depthMax: 2048, valuesMax: 250_000 };

const bytesOf = (text: string): Buffer => Buffer.from(text);

/** Why a document is refused; null when it is accepted. */
function refusal(bytes: Uint8Array, bounds = BOUNDS): JsonError['reason'] | null {
  try {
    const reader = new JsonReader(bytes, bounds);
    reader.skip();
    reader.end();
    return null;
  } catch (error) {
    if (error instanceof JsonError) return error.reason;
    throw error;
  }
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** What a document says, put together by entering every container and reading every value. */
function rebuilt(reader: JsonReader): unknown {
  switch (reader.peek()) {
    case 'object': {
      const entries: [string, unknown][] = [];
      reader.enter();
      while (reader.nextKey()) entries.push([decodeString(reader.bytes, reader.key), rebuilt(reader)]);
      return Object.fromEntries(entries);
    }
    case 'array': {
      const items: unknown[] = [];
      reader.enter();
      while (reader.nextItem()) items.push(rebuilt(reader));
      return items;
    }
    case 'string':
      return decodeString(reader.bytes, reader.readString());
    case 'number':
      return reader.readNumber();
    case 'boolean':
      return reader.readBoolean();
    case 'null':
      reader.skip();
      return null;
  }
}

/** JSON as people and programs write it: with blanks, escapes, exponents and repeated keys. */
const blanks = fc.stringMatching(/^[ \t\r\n]{0,3}$/);
const scalar = fc.oneof(
  fc.constantFrom('true', 'false', 'null', '0', '-0', '1e5', '-1.5E-10', '123456789012345678901234567890', '1E+400'),
  fc.integer().map(String),
  fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => JSON.stringify(value)),
  fc.string({ unit: 'binary', maxLength: 20 }).map((text) => JSON.stringify(text)),
  fc.constantFrom('"\\ud800"', '"\\u004D\\/\\b\\f"', '""', '"\\\\\\""', '"\u2028\u007f"'),
);
const { json } = fc.letrec<{ json: string; list: string; object: string }>((tie) => ({
  json: fc.oneof({ depthSize: 'small', withCrossShrink: true }, scalar, tie('list'), tie('object')),
  list: fc
    .tuple(
      blanks,
      fc.array(
        fc.tuple(blanks, tie('json'), blanks).map((parts) => parts.join('')),
        { maxLength: 4 },
      ),
    )
    .map(([blank, items]) => (items.length === 0 ? `[${blank}]` : `[${items.join(',')}]`)),
  object: fc
    .array(fc.tuple(blanks, fc.constantFrom('"a"', '"\\u0061"', '""', '"__proto__"'), blanks, tie('json'), blanks), {
      maxLength: 4,
    })
    .map((members) => `{${members.map(([b, key, c, value, d]) => `${b}${key}${c}:${b}${value}${d}`).join(',')}}`),
}));

describe('gateway: scanning JSON', () => {
  it('accepts exactly what JSON.parse accepts, and reads the same values', () => {
    fc.assert(
      fc.property(blanks, json, blanks, (before, text, after) => {
        const document = before + text + after;
        const expected = JSON.parse(document) as unknown;
        assert.equal(refusal(bytesOf(document)), null);
        const reader = new JsonReader(bytesOf(document), BOUNDS);
        const actual = rebuilt(reader);
        reader.end();
        assert.deepEqual(JSON.stringify(actual), JSON.stringify(expected));
      }),
      { numRuns: 1000 },
    );
  });

  it('refuses what JSON.parse refuses: JSON with a piece replaced, cut or put in', () => {
    const piece = fc.oneof(fc.constantFrom(...'{}[]:,"\\0-+.eE tfn\u0000\u001f\n\t1'), fc.string({ maxLength: 3 }));
    fc.assert(
      fc.property(json, fc.nat(), fc.nat(3), piece, (text, at, length, inserted) => {
        const from = at % (text.length + 1);
        const document = (text.slice(0, from) + inserted + text.slice(from + length)).toWellFormed();
        assert.equal(refusal(bytesOf(document)) === null, isJson(document), JSON.stringify(document));
      }),
      { numRuns: 5000 },
    );
    fc.assert(
      fc.property(fc.stringMatching(/^[-+0-9.eE]{0,8}$/), (number) => {
        assert.equal(refusal(bytesOf(number)) === null, isJson(number), number);
      }),
      { numRuns: 2000 },
    );
  });

  for (const [name, text] of [
    ['nothing', ''],
    ['only blanks', ' \n'],
    ['a second value', '{} {}'],
    ['a trailing comma in a list', '[1,]'],
    ['a trailing comma in an object', '{"a":1,}'],
    ['a leading comma', '[,1]'],
    ['a key without quotes', '{a:1}'],
    ['a key that is no string', '{1:1}'],
    ['single quotes', "{'a':1}"],
    ['a comment', '/* */{}'],
    ['a member without a colon', '{"a" 1}'],
    ['a member without a value', '{"a":}'],
    ['containers closed crosswise', '[{]}'],
    ['a container that is not closed', '{"a":[1'],
    ['a string that is not closed', '"abc'],
    ['an escape that is cut', '"\\u00'],
    ['an escape that does not exist', '"\\x41"'],
    ['a raw line break in a string', '"a\nb"'],
    ['a raw NUL in a string', '"a\u0000b"'],
    ['a number with a leading zero', '01'],
    ['a number with a plus', '+1'],
    ['a number that begins with a point', '.5'],
    ['a number that ends with a point', '5.'],
    ['an empty exponent', '1e'],
    ['a minus alone', '-'],
    ['NaN', 'NaN'],
    ['Infinity', '-Infinity'],
    ['a word that goes on', 'nulls'],
    ['a word that is cut', 'tru'],
    ['a no-break space as a blank', '\u00a0{}'],
    ['a byte-order mark', '\ufeff{}'],
  ] as const) {
    it(`${name} is no JSON`, () => {
      assert.equal(isJson(text), false);
      assert.equal(refusal(bytesOf(text)), 'syntax');
    });
  }

  it('bytes that are not UTF-8 are no JSON: cut, overlong, surrogates, Latin-1, UTF-16', () => {
    for (const hex of ['22c322', '22c0af22', '22eda08022', '22fc22', 'fffe7b007d00', '22f888808022', '22f490808022']) {
      assert.equal(refusal(Buffer.from(hex, 'hex')), 'syntax', hex);
    }
  });

  it('nesting is bounded, of lists and objects, open or closed, skipped or entered', () => {
    const lists = (levels: number): string => '['.repeat(levels) + ']'.repeat(levels);
    const objects = (levels: number): string => '{"a":'.repeat(levels) + '1' + '}'.repeat(levels);
    const { depthMax } = BOUNDS;
    for (const nested of [lists, objects]) {
      assert.equal(refusal(bytesOf(nested(depthMax))), null);
      assert.equal(refusal(bytesOf(nested(depthMax + 1))), 'depth');
    }
    assert.equal(refusal(bytesOf('['.repeat(1_000_000))), 'depth', 'millions of levels that are never closed');
    const reader = new JsonReader(bytesOf(lists(5)), { ...BOUNDS, depthMax: 3 });
    for (let level = 1; level <= 3; level += 1) {
      reader.enter();
      if (level < 3) reader.nextItem();
    }
    reader.nextItem();
    assert.throws(() => reader.skip(), { reason: 'depth' });
  });

  it('the number of values is bounded, whatever they are and however they are read', () => {
    const bounds = { ...BOUNDS, valuesMax: 5 };
    for (const [text, expected] of [
      ['[1,2,3,4]', null],
      ['[1,2,3,4,5]', 'values'],
      ['[[],{},"",null]', null],
      ['{"a":{"b":{"c":{"d":1}}}}', null],
      ['{"a":[1],"b":[true,false]}', 'values'],
    ] as const) {
      assert.equal(refusal(bytesOf(text), bounds), expected, text);
    }
    const reader = new JsonReader(bytesOf('[1,2,3,4,5]'), bounds);
    reader.enter();
    for (let item = 0; item < 4; item += 1) {
      reader.nextItem();
      reader.skip();
    }
    reader.nextItem();
    assert.throws(() => reader.skip(), { reason: 'values' });
  });

  it('says where values and members are, so that they can be cut out of the document', () => {
    const text = ' { "m\\u006fdel" : "x" , "n":[ 1 ],"é": {} } ';
    const bytes = bytesOf(text);
    const at = (start: number, end: number): string => bytes.toString('utf8', start, end);
    const reader = new JsonReader(bytes, BOUNDS);
    const found: [key: string, member: string, value: string][] = [];
    reader.enter();
    while (reader.nextKey()) {
      const start = reader.keyStart;
      const key = decodeString(bytes, reader.key);
      const value = reader.skip();
      assert.equal(reader.position, value.end);
      found.push([key, at(start, value.end), at(value.start, value.end)]);
    }
    reader.end();
    assert.deepEqual(found, [
      ['model', '"m\\u006fdel" : "x"', '"x"'],
      ['n', '"n":[ 1 ]', '[ 1 ]'],
      ['é', '"é": {}', '{}'],
    ]);
  });

  it('a value that was read halfway can be read again from its mark', () => {
    const reader = new JsonReader(bytesOf('{"a":[[1,2],3],"b":4}'), BOUNDS);
    reader.enter();
    reader.nextKey();
    const mark = reader.mark();
    reader.enter();
    reader.nextItem();
    reader.enter();
    reader.nextItem();
    reader.reset(mark);
    const { start, end } = reader.skip();
    assert.equal(Buffer.from(reader.bytes).toString('utf8', start, end), '[[1,2],3]');
    assert.equal(reader.nextKey(), true);
    assert.equal(reader.readNumber(), 4);
    assert.equal(reader.nextKey(), false);
    reader.end();
  });

  it('a name is recognized however it is escaped, and nothing else is taken for it', () => {
    const names = new NameTable(['n', 'model', 'größe', '__proto__']);
    const find = (text: string): string | null => {
      const reader = new JsonReader(bytesOf(text), BOUNDS);
      return names.find(reader.bytes, reader.readString());
    };
    for (const [text, expected] of [
      ['"model"', 'model'],
      ['"\\u006d\\u006f\\u0064\\u0065\\u006c"', 'model'],
      ['"m\\u006Fdel"', 'model'],
      ['"größe"', 'größe'],
      ['"gr\\u00f6\\u00DFe"', 'größe'],
      ['"__proto__"', '__proto__'],
      ['"Model"', null],
      ['"model "', null],
      ['"mode"', null],
      ['"constructor"', null],
      ['""', null],
      [`"${'\\u0061'.repeat(100_000)}"`, null],
    ] as const) {
      assert.equal(find(text), expected, text.slice(0, 40));
    }
  });
});
