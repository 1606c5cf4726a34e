/** The body that goes to the upstream: the client's bytes, except for what the hold and the bill depend on. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { READ_FIELDS } from '../../../../../../api/gateway/dialects/openai-chat/fields.ts';
import { parseChatRequest } from '../../../../../../api/gateway/dialects/openai-chat/request.ts';
import { upstreamBody } from '../../../../../../api/gateway/dialects/openai-chat/upstream-body.ts';
import type { Upstream } from '../../../../../../db/requests/catalogue.ts';
import { Refusal } from '../../../../../../domain/errors.ts';
import { gatewayModel, UPSTREAM } from '../../../../../support/chat-model.ts';

const MESSAGES = '"messages":[{"role":"user","content":"Hi"}]';

interface Sending {
  /** The model may produce output unseen. */
  readonly hidden?: boolean;
  readonly upstream?: Partial<Upstream>;
  readonly cap?: number | null;
}

function sent(body: string, { hidden = false, upstream = {}, cap = null }: Sending = {}): string {
  const model = gatewayModel({ hiddenOutput: hidden });
  const target = { model, upstream: { ...UPSTREAM, ...upstream }, outputCap: cap };
  return upstreamBody(parseChatRequest(Buffer.from(body)), target).toString();
}

/** The members of an object in order, as a server that takes the first, or the last, of two would read them. */
function membersOf(text: string): readonly [name: string, value: unknown][] {
  const members: [string, unknown][] = [];
  // JSON.parse itself keeps only the last of two members: each gets a name of its own first.
  const counted = new Map<string, number>();
  const marked = text.replace(/(?<=[{,]\s*)"((?:[^"\\]|\\.)*)"(?=\s*:)/g, (key, name: string) => {
    const count = counted.get(name) ?? 0;
    counted.set(name, count + 1);
    return count === 0 ? key : `"${name}#${count}"`;
  });
  for (const [name, value] of Object.entries(JSON.parse(marked) as object))
    members.push([name.replace(/#\d+$/, ''), value]);
  return members;
}

describe('gateway: the body for the upstream', () => {
  it('is the client’s own, byte for byte, but for the model: blanks, order, long numbers, escapes, fields that come twice', () => {
    const body = (model: string): string =>
      ` \n{\t"seed" : 123456789012345678901234567890 ,"mod\\u0065l":"${model}" ,\n"temperature":1.0E+0,` +
      `"user":"\\u00fc\\/\ud83d\udc69","user":"ü", ${MESSAGES} ,"max_tokens": 7\r\n} \n`;
    assert.equal(sent(body('test/model')), body('upstream/name'));
  });

  it('is changed in model, asked-for usage and a missing limit, and in nothing else', () => {
    fc.assert(
      fc.property(
        fc.dictionary(
          fc.string().map((name) => `x_${name}`),
          fc.jsonValue(),
        ),
        fc.boolean(),
        fc.constantFrom(undefined, 0, 2, '\t'),
        (fields, stream, indent) => {
          const body = { ...fields, model: 'test/model', messages: [{ role: 'user', content: 'Hi' }], stream };
          const { model, stream_options, max_completion_tokens, ...rest } = JSON.parse(
            sent(JSON.stringify(body, null, indent)),
          ) as Record<string, unknown>;
          assert.deepEqual(
            [model, stream_options, max_completion_tokens],
            ['upstream/name', stream ? { include_usage: true } : undefined, stream ? undefined : 1000],
          );
          assert.deepEqual({ model: body.model, ...rest }, JSON.parse(JSON.stringify(body)));
        },
      ),
      { numRuns: 300 },
    );
  });

  it('has every field that is read once, as it was understood: a server that takes the first reads the same', () => {
    const members = fc.array(
      fc.tuple(
        fc.constantFrom(
          'model',
          'n',
          'max_tokens',
          'max_completion_tokens',
          'stream',
          'stream_options',
          'seed',
          'vendor',
        ),
        fc.constantFrom('1', '5', 'null', 'false', 'true', '"a"', '{}', '{"include_usage":false}'),
      ),
      { maxLength: 8 },
    );
    const blank = fc.constantFrom('', ' ', '\n\t');
    const upstreams = fc.record(
      {
        limit_field: fc.constantFrom('max_tokens' as const, 'max_completion_tokens' as const, 'none' as const),
        usage_request: fc.constantFrom('none' as const, 'stream_options' as const),
      },
      { requiredKeys: [] },
    );
    let accepted = 0;
    fc.assert(
      fc.property(members, fc.nat(8), blank, upstreams, (list, at, space, upstream) => {
        const written = list.map(([name, value]) => `"${name}"${space}:${space}${value}`);
        written.splice(at, 0, '"model":"m"', MESSAGES);
        const body = `{${space}${written.join(`${space},${space}`)}${space}}`;
        let text: string;
        try {
          text = sent(body, { upstream });
        } catch (error) {
          if (error instanceof Refusal) return;
          throw error;
        }
        accepted += 1;
        const names = membersOf(text).map(([name]) => name);
        for (const field of READ_FIELDS) {
          assert.ok(names.filter((name) => name === field).length <= 1, `${field} in ${text} of ${body}`);
        }
        const expected = JSON.parse(body) as Record<string, unknown>;
        const actual = JSON.parse(text) as Record<string, unknown>;
        assert.equal(actual['model'], 'upstream/name');
        for (const field of ['n', 'stream', 'seed', 'vendor', 'messages']) {
          assert.deepEqual(actual[field], expected[field], `${field} in ${text} of ${body}`);
        }
        const seeds = (members: readonly [string, unknown][]): number => members.filter(([n]) => n === 'seed').length;
        assert.equal(seeds(membersOf(text)), seeds(membersOf(body)), 'what is not read goes on however often it comes');
      }),
      { numRuns: 2000 },
    );
    assert.ok(accepted > 200, `only ${accepted} bodies were accepted`);
  });

  describe('usage', () => {
    for (const [options, upstream, expected] of [
      [undefined, {}, { include_usage: true }],
      ['null', {}, { include_usage: true }],
      ['{}', {}, { include_usage: true }],
      ['{"include_usage":false}', {}, { include_usage: true }],
      ['{"include_usage":null,"include_obfuscation":false}', {}, { include_obfuscation: false, include_usage: true }],
      ['{"include_usage":true,"include_\\u0075sage":false}', {}, { include_usage: true }],
      ['{"include_usage":true}', { usage_request: 'none' }, undefined],
      [undefined, { usage_request: 'none' }, undefined],
    ] as const) {
      it(`of a stream with options ${options ?? 'absent'} at ${JSON.stringify(upstream)}`, () => {
        const member = options === undefined ? '' : `,"stream_options":${options}`;
        const text = sent(`{"model":"m",${MESSAGES},"stream":true${member}}`, { upstream });
        assert.deepEqual((JSON.parse(text) as Record<string, unknown>)['stream_options'], expected);
        assert.equal(text.match(/include_usage/g)?.length ?? 0, expected === undefined ? 0 : 1);
      });
    }
  });

  describe('limits', () => {
    for (const [members, sending, expected] of [
      // Where the catalogue says nothing: the client's own fields, and ours where one is needed.
      ['', {}, { max_completion_tokens: 1000 }],
      [',"max_tokens":null', {}, { max_tokens: null, max_completion_tokens: 1000 }],
      [',"max_completion_tokens":null', {}, { max_completion_tokens: 1000 }],
      [',"max_tokens":7', {}, { max_tokens: 7 }],
      [',"max_completion_tokens":7', {}, { max_completion_tokens: 7 }],
      [',"max_tokens":70,"max_completion_tokens":20', {}, { max_tokens: 70, max_completion_tokens: 20 }],
      [',"max_tokens":2000000000', {}, { max_tokens: 100_000 }],
      [',"stream":true', {}, {}],
      [',"stream":true,"max_tokens":7', {}, { max_tokens: 7 }],
      [',"stream":true', { cap: 300 }, { max_completion_tokens: 300 }],
      [',"stream":true,"max_tokens":7', { cap: 300 }, { max_tokens: 7 }],
      [',"stream":true,"max_tokens":700', { cap: 300 }, { max_tokens: 300 }],
      [
        ',"stream":true,"max_tokens":700,"max_completion_tokens":20',
        { cap: 300 },
        { max_tokens: 300, max_completion_tokens: 20 },
      ],
      [',"stream":true', { hidden: true }, { max_completion_tokens: 1000 }],
      [',"stream":true', { hidden: true, cap: 300 }, { max_completion_tokens: 300 }],
      [',"stream":true,"max_tokens":7', { hidden: true }, { max_tokens: 7 }],
      // Where it names a field: that one alone.
      ['', { upstream: { limit_field: 'max_tokens' } }, { max_tokens: 1000 }],
      [',"max_tokens":null', { upstream: { limit_field: 'max_tokens' } }, { max_tokens: 1000 }],
      [',"max_completion_tokens":7', { upstream: { limit_field: 'max_tokens' } }, { max_tokens: 7 }],
      [',"max_completion_tokens":null', { upstream: { limit_field: 'max_tokens' } }, { max_tokens: 1000 }],
      [',"max_tokens":7', { upstream: { limit_field: 'max_completion_tokens' } }, { max_completion_tokens: 7 }],
      [',"max_tokens":70,"max_completion_tokens":20', { upstream: { limit_field: 'max_tokens' } }, { max_tokens: 70 }],
      [
        ',"max_tokens":70,"max_completion_tokens":20',
        { upstream: { limit_field: 'max_completion_tokens' } },
        { max_completion_tokens: 20 },
      ],
      [',"max_tokens":7', { upstream: { limit_field: 'max_output_tokens' } }, { max_output_tokens: 7 }],
      [',"max_completion_tokens":2000000000', { upstream: { limit_field: 'max_tokens' } }, { max_tokens: 100_000 }],
      [',"stream":true', { upstream: { limit_field: 'max_tokens' } }, {}],
      [',"stream":true', { upstream: { limit_field: 'max_tokens' }, cap: 300 }, { max_tokens: 300 }],
      [
        ',"stream":true,"max_tokens":700',
        { upstream: { limit_field: 'max_new_tokens' }, cap: 300 },
        { max_new_tokens: 300 },
      ],
      [',"stream":true', { upstream: { limit_field: 'max_tokens' }, hidden: true }, { max_tokens: 1000 }],
      // Where it takes none.
      [',"max_tokens":70,"max_completion_tokens":20', { upstream: { limit_field: 'none' } }, {}],
      ['', { upstream: { limit_field: 'none' } }, {}],
      [',"stream":true', { upstream: { limit_field: 'none' }, cap: 300 }, {}],
    ] as const) {
      it(`{…${members}} at ${JSON.stringify(sending)} ⇒ ${JSON.stringify(expected)}`, () => {
        const text = sent(`{"model":"m",${MESSAGES}${members}}`, sending);
        const limits = Object.entries(JSON.parse(text) as object).filter(([name]) => name.startsWith('max_'));
        assert.deepEqual(Object.fromEntries(limits), expected);
      });
    }

    it('that go are cut out wherever they stand, also in the first place and all in a row', () => {
      const limits = '"max_tokens":1,"max_completion_tokens":2';
      const upstream = { limit_field: 'none' } as const;
      for (const body of [
        `{${limits},"model":"m",${MESSAGES}}`,
        `{ "model":"m" , ${limits} ,${MESSAGES} }`,
        `{"model":"m",${MESSAGES},${limits}}`,
        `{"max_tokens":1,"model":"m","max_completion_tokens":2,${MESSAGES},"max_tokens":3}`,
      ]) {
        const expected = { model: 'upstream/name', messages: [{ role: 'user', content: 'Hi' }] };
        assert.deepEqual(JSON.parse(sent(body, { upstream })), expected, body);
      }
    });
  });
});
