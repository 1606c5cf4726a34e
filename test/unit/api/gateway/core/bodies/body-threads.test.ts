/**
 * Parsing in other threads: the same results and refusals as here, nobody waits for another account, and no thread is
 * missed.
 */
import assert from 'node:assert/strict';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';
import { pino } from 'pino';
import type { Coding } from '../../../../../../api/gateway/core/bodies/body-codings.ts';
import { refusalOf } from '../../../../../../api/gateway/core/bodies/body-job.ts';
import { BodyThreads, type Parsing } from '../../../../../../api/gateway/core/bodies/body-threads.ts';
import { DIALECTS } from '../../../../../../api/gateway/dialects/dialects.ts';
import { parseChatRequest } from '../../../../../../api/gateway/dialects/openai-chat/request.ts';
import { Refusal } from '../../../../../../domain/errors.ts';
import type { AccountUuid } from '../../../../../../domain/ids.ts';

const LIMIT = 10 * 1024 * 1024;
const ODD_THREAD = new URL('../../../../../support/odd-body-thread.ts', import.meta.url);
const account = (name: string): AccountUuid => name as AccountUuid;

const BODY = {
  model: 'test/small',
  messages: [{ role: 'user', content: 'Tell me. '.repeat(50_000) }],
  stream: true,
  max_tokens: 7,
  metadata: { größe: '東京' },
};
const RAW = Buffer.from(JSON.stringify(BODY));

/** The request, the refusal, or the text of what went wrong. */
async function outcomeOf({ result }: Parsing): Promise<unknown> {
  try {
    const outcome = await result;
    switch (outcome.kind) {
      case 'parsed':
        return outcome.request;
      case 'refused':
        return refusalOf(outcome.refusal);
      case 'failed':
        return outcome.error;
    }
  } catch (error) {
    return error instanceof Refusal ? error : (error as Error).message;
  }
}

/** What parsing the same bytes in this thread gives. */
function here(raw: Buffer): unknown {
  try {
    const request = parseChatRequest(raw);
    // Between threads a Buffer becomes a plain array of bytes.
    return { ...request, raw: Uint8Array.from(request.raw) };
  } catch (error) {
    assert.ok(error instanceof Refusal);
    return error;
  }
}

describe('body threads', () => {
  const logger = pino({ level: 'silent' });
  let threads: BodyThreads;

  afterEach(() => threads.stop());

  function parse(raw: Buffer | string, { of = 'a', codings = [] as Coding[] } = {}): Parsing {
    return threads.parse(account(of), { dialect: 'openai-chat', raw: Buffer.from(raw), codings, limitBytes: LIMIT });
  }

  describe('with the thread of the product', () => {
    beforeEach(() => (threads = new BodyThreads({ size: 2, logger, program: DIALECTS.bodyThread })));

    it('a body gives the same request as here', async () => {
      assert.deepEqual(await outcomeOf(parse(RAW)), here(RAW));
      const small = Buffer.from('{"model":"m","messages":[{"role":"user","content":"Hi"}]}');
      assert.deepEqual(await outcomeOf(parse(small)), here(small), 'also one so small that its memory is shared');
    });

    it('a refusal comes back as a Refusal with everything that it says', async () => {
      for (const text of ['{', '[]', '{"model":5}', JSON.stringify({ ...BODY, n: 0 })]) {
        const raw = Buffer.from(text);
        const outcome = await outcomeOf(parse(raw));
        assert.ok(outcome instanceof Refusal);
        assert.deepEqual(outcome, here(raw), text.slice(0, 40));
      }
    });

    it('a compressed body is decompressed there, and what that cost is told, also where it ended in nothing', async () => {
      for (const [codings, raw] of [
        [['gzip'], gzipSync(RAW)],
        [['gzip', 'br'], brotliCompressSync(gzipSync(RAW))],
      ] as const) {
        const outcome = await parse(raw, { codings: [...codings] }).result;
        assert.deepEqual(outcome, { kind: 'parsed', request: here(RAW), decodedBytes: RAW.length });
      }
      const bomb = brotliCompressSync(Buffer.alloc(2 * LIMIT), { params: { [constants.BROTLI_PARAM_QUALITY]: 4 } });
      const [burst, broken] = [
        await parse(bomb, { codings: ['br'] }).result,
        await parse(RAW, { codings: ['zstd'] }).result,
      ];
      assert.ok(burst.kind === 'refused' && burst.refusal.code === 'body_too_large');
      assert.ok(broken.kind === 'refused' && broken.refusal.code === 'invalid_body');
      assert.ok(burst.decodedBytes > 100 * bomb.length, `${burst.decodedBytes}`);
    });

    it('the event loop turns while a body is parsed', async () => {
      const large = JSON.stringify({ ...BODY, metadata: { text: '\n'.repeat(LIMIT / 3) } });
      let turns = 0;
      const timer = setInterval(() => (turns += 1), 1);
      await outcomeOf(parse(large));
      clearInterval(timer);
      assert.ok(turns > 3, `${turns} turns`);
    });
  });

  describe('with an odd thread', () => {
    beforeEach(() => (threads = new BodyThreads({ size: 1, logger, program: ODD_THREAD, timeoutMs: 5000 })));

    it('a thread that dies fails the body it had, and only that', async () => {
      const bodies = ['one', 'die', 'two', 'throw', 'three'].map((text) => outcomeOf(parse(text)));
      assert.deepEqual(await Promise.all(bodies), [
        'one',
        'the thread that parsed the body died',
        'two',
        'the thread that parsed the body died',
        'three',
      ]);
    });

    it('one that hangs is ended, and the next body finds another', async () => {
      await threads.stop();
      threads = new BodyThreads({ size: 1, logger, program: ODD_THREAD, timeoutMs: 1000 });
      const bodies = ['hang', 'after'].map((text) => outcomeOf(parse(text)));
      assert.deepEqual(await Promise.all(bodies), ['the thread that parsed the body died', 'after']);
    });

    it('an account that has sent nothing yet waits for none of the twenty bodies of another', async () => {
      const order: string[] = [];
      const parsed = (text: string, of: string): Promise<unknown> =>
        outcomeOf(parse(text, { of })).then(() => order.push(of));
      const hostile = Array.from({ length: 20 }, () => parsed('wait'.padEnd(100_000), 'hostile'));
      await hostile[0];
      await parsed('quick', 'payer');
      assert.ok(order.length <= 3, order.join());
      await threads.stop();
    });

    it('a body that is given up before its turn is never parsed and fails at once', async () => {
      const first = parse('wait');
      const second = parse('die');
      const third = parse('after');
      second.abandon(new Error('given up'));
      assert.equal(await outcomeOf(second), 'given up');
      assert.deepEqual([await outcomeOf(first), await outcomeOf(third)], ['wait', 'after']);
    });

    it('too many waiting bodies of an account are refused, others not; and all are counted', async () => {
      const waiting = Array.from({ length: 129 }, () => outcomeOf(parse('wait', { of: 'hostile' })));
      assert.throws(() => parse('one more', { of: 'hostile' }), { code: 'body_budget_exceeded', status: 429 });
      const other = outcomeOf(parse('other', { of: 'payer' }));
      assert.equal(threads.waiting, 129);
      assert.equal(await other, 'other');
      await threads.stop();
      const ends = await Promise.all(waiting);
      assert.ok(
        ends.some((end) => (end as Refusal).code === 'overloaded'),
        'those that still waited at the end',
      );
    });
  });
});
