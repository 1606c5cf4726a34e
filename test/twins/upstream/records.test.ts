/**
 * The upstream twin's counts of an answer, whole or left in the middle, and their record. Bills are compared
 * with these counts: a token that was counted and not produced, or the other way, would make a right bill look wrong.
 */
import assert from 'node:assert/strict';

import { startUpstreamTwin, type RequestPage, type UpstreamTwin } from '../../../twins/upstream/twin.ts';
import { TwinControl } from '../../support/twin-control.ts';
import { until } from '../../support/until.ts';
import { ask, completion, events, newId, post, QUESTION, readEvents, record, recordBecomes } from './fixture.ts';

describe('upstream twin counts what it produced', () => {
  let twin: UpstreamTwin;
  const control = new TwinControl(() => twin.url);

  before(async () => {
    twin = await startUpstreamTwin();
  });
  afterEach(() => twin.reset());
  after(() => twin.close());

  it('until the client of a stream left, and no further', async () => {
    const id = newId();
    const abort = new AbortController();
    const body = { ...QUESTION, stream: true, metadata: { twin: { chunk_interval_ms: 5, output_tokens: 1000 } } };
    const response = await post(twin, body, { id, signal: abort.signal });
    await readEvents(response, 1 + 3);
    assert.equal(record(twin, id).status, 'running');
    assert.equal(record(twin, id).ended_at, null);
    assert.equal(record(twin, id).usage, null);
    abort.abort();
    const aborted = await recordBecomes(twin, id, 'aborted');
    assert.ok(aborted.completion_tokens >= 3 && aborted.completion_tokens < 1000, `${aborted.completion_tokens}`);
    assert.equal(aborted.usage?.completion_tokens, aborted.completion_tokens);
    assert.ok(aborted.prompt_tokens > 0);
    await events(twin, { metadata: { twin: { chunk_interval_ms: 5, output_tokens: 8 } } });
    assert.deepEqual(record(twin, id), aborted, 'nothing was produced while another answer of the same pace ran');
  });

  it('until the client of a whole answer left', async () => {
    const id = newId();
    const abort = new AbortController();
    const metadata = { twin: { chunk_interval_ms: 5, output_tokens: 1000 } };
    const pending = post(twin, { ...QUESTION, metadata }, { id, signal: abort.signal });
    await until('a few tokens', () => (twin.request(id)?.completion_tokens ?? 0) >= 3);
    abort.abort();
    await assert.rejects(pending);
    const aborted = await recordBecomes(twin, id, 'aborted');
    assert.ok(aborted.completion_tokens >= 3 && aborted.completion_tokens < 1000, `${aborted.completion_tokens}`);
  });

  it('for a client that reads slowly: production waits instead of filling memory', async () => {
    const id = newId();
    const abort = new AbortController();
    const body = { ...QUESTION, stream: true, metadata: { twin: { output_tokens: 1_000_000 } } };
    await post(twin, body, { id, signal: abort.signal });
    assert.ok(record(twin, id).completion_tokens < 1_000_000);
    abort.abort();
    await recordBecomes(twin, id, 'aborted');
  });

  it('twice for an id that came twice', async () => {
    const id = newId();
    const { usage } = await completion(twin, {}, id);
    await events(twin, {}, id);
    const kept = record(twin, id);
    assert.ok(usage);
    assert.equal(kept.prompt_tokens, 2 * usage.prompt_tokens);
    assert.equal(kept.attempts, 2);
    assert.equal(kept.completion_tokens, 32);
    assert.equal(kept.usage?.completion_tokens, 32);
    assert.equal(twin.requests().totals.requests, 1);
    assert.equal(twin.requests().totals.attempts, 2);
  });

  it('also for a request that came without an id', async () => {
    await completion(twin);
    const [kept] = twin.requests().data;
    assert.match(kept?.request_id ?? '', /^unnamed-/);
    assert.equal(kept?.completion_tokens, 16);
  });

  it('and tells it over HTTP: one record, 404 for an unknown id, pages in order with totals, forgetting', async () => {
    const ids = Array.from({ length: 5 }, newId);
    for (const id of ids) await completion(twin, { max_tokens: 2 }, id);
    assert.deepEqual(await control.show(`requests/${ids[0]}`), record(twin, ids[0]!));
    assert.equal((await control.call('GET', 'requests/never')).status, 404);
    assert.equal((await control.call('GET', 'requests/%ff')).status, 400);

    const seen: string[] = [];
    let since: number | null = 0;
    while (since !== null) {
      const page: RequestPage = await control.show(`requests?since_ordinal=${since}&limit=2`);
      assert.ok(page.data.length <= 2);
      assert.equal(page.totals.completed, 5);
      assert.equal(page.totals.completion_tokens, 10);
      seen.push(...page.data.map((kept) => kept.request_id));
      since = page.next_ordinal;
    }
    assert.deepEqual(seen, ids);
    assert.equal((await control.call('GET', 'requests?limit=0')).status, 400);

    await control.call('DELETE', 'requests');
    assert.equal((await control.call('GET', `requests/${ids[0]}`)).status, 404);
    assert.equal(twin.requests().totals.requests, 0);
  });

  it('within bounded memory: the oldest ended records go, the totals stay', async () => {
    const small = await startUpstreamTwin({ maxRecords: 4 });
    try {
      for (let index = 1; index <= 10; index += 1) await ask(small, {}, `r${index}`);
      const { data, totals } = small.requests();
      assert.deepEqual(
        data.map((kept) => kept.request_id),
        ['r7', 'r8', 'r9', 'r10'],
      );
      assert.equal(totals.completed, 10);
      assert.equal(totals.completion_tokens, 160);
    } finally {
      await small.close();
    }
  });
});
