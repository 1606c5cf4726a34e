/** The upstream twin as a process of its own: what it starts with, what it keeps when it is killed, and how it ends. */
import assert from 'node:assert/strict';
import { appendFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import type { RequestRecord } from '../../../twins/upstream/twin.ts';
import { TwinControl } from '../../support/twin-control.ts';
import { complaintOf, TwinProcesses } from '../../support/twin-process.ts';
import { API_KEY, completion, HOUR_MS, post, QUESTION } from './fixture.ts';

/** Asks for a stream that is still open when a test ends its twin. */
const ENDLESS = { ...QUESTION, stream: true, metadata: { twin: { chunk_interval_ms: HOUR_MS } } };

describe('upstream twin as a process', () => {
  let twins: TwinProcesses;
  const control = new TwinControl(() => twins.latest.url);

  beforeEach(() => {
    twins = new TwinProcesses('upstream');
  });
  afterEach(() => twins.end());

  function recordOf(id: string): Promise<RequestRecord> {
    return control.show(`requests/${id}`);
  }

  it('takes its knobs from the environment and stops cleanly on SIGTERM, also under an open stream', async () => {
    await twins.start({
      TWIN_PORT: '0',
      TWIN_LATENCY_MS: '30',
      TWIN_CHUNK_INTERVAL_MS: '2',
      TWIN_OUTPUT_TOKENS: '4',
      TWIN_API_KEY: API_KEY,
      TWIN_MODELS: 'x, y',
    });
    const startedAt = performance.now();
    const answer = await completion(twins.latest);
    assert.ok(performance.now() - startedAt >= 35);
    assert.equal(answer.usage?.completion_tokens, 4);
    const knobs = await control.show<Record<string, unknown>>('config');
    assert.deepEqual(
      [knobs['latency_ms'], knobs['chunk_interval_ms'], knobs['output_tokens'], knobs['api_key'], knobs['models']],
      [30, 2, 4, API_KEY, { x: {}, y: {} }],
    );
    const open = await post(twins.latest, ENDLESS);
    const cut = assert.rejects(open.text());
    assert.equal(await twins.latest.stop('SIGTERM'), 0);
    await cut;
  });

  it('still answers lookups after kill -9: ended requests exactly, running ones as aborted', async () => {
    const dataFile = join(twins.folder, 'twin.jsonl');
    await twins.start({ TWIN_DATA_FILE: dataFile });
    await completion(twins.latest, {}, 'ended');
    await completion(twins.latest, {}, 'ended');
    const ended = await recordOf('ended');
    const open = await post(twins.latest, ENDLESS, { id: 'open' });
    const cut = assert.rejects(open.text());
    await twins.latest.stop('SIGKILL');
    await cut;
    appendFileSync(dataFile, '{"ordinal":3,"request_id":"to');

    await twins.start({ TWIN_DATA_FILE: dataFile });
    assert.deepEqual(await recordOf('ended'), ended);
    assert.equal(ended.attempts, 2);
    const aborted = await recordOf('open');
    assert.equal(aborted.status, 'aborted');
    assert.ok(aborted.prompt_tokens > 0);
    assert.equal(readFileSync(dataFile, 'utf8').trimEnd().split('\n').length, 2, 'compacted at the start');

    await completion(twins.latest, {}, 'new');
    assert.equal((await recordOf('new')).ordinal, 3);
    await control.call('DELETE', 'requests');
    assert.equal(readFileSync(dataFile, 'utf8'), '');
  });

  it('exits with 1 and names every bad variable, or the taken port', async () => {
    await twins.start({ TWIN_PORT: '0' });
    const [bad, taken] = await Promise.all([
      complaintOf('upstream', { TWIN_PORT: '70000', TWIN_LATENCY_MS: 'soon' }),
      complaintOf('upstream', { TWIN_PORT: String(twins.latest.port) }),
    ]);
    assert.match(bad, /TWIN_PORT.*TWIN_LATENCY_MS/);
    assert.match(taken, /EADDRINUSE/);
  });
});
