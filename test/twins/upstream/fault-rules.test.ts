/** Which requests the upstream twin breaks: those that match a rule, in the order of the rules, as often as told. */
import assert from 'node:assert/strict';

import { startUpstreamTwin, type UpstreamTwin } from '../../../twins/upstream/twin.ts';
import { TwinControl } from '../../support/twin-control.ts';
import { ask, newId, post, QUESTION, record } from './fixture.ts';

describe('upstream twin breaks by rules', () => {
  let twin: UpstreamTwin;
  const control = new TwinControl(() => twin.url);

  before(async () => {
    twin = await startUpstreamTwin();
  });
  afterEach(() => twin.reset());
  after(() => twin.close());

  it('in combination: one rule, several faults', async () => {
    const id = newId();
    const startedAt = performance.now();
    twin.faults.add({
      fault: [
        { type: 'slow', first_ms: 30 },
        { type: 'reset', after_chunks: 2 },
      ],
    });
    const response = await post(twin, { ...QUESTION, stream: true }, { id });
    await assert.rejects(response.text());
    assert.ok(performance.now() - startedAt >= 29);
    assert.equal(record(twin, id).completion_tokens, 2);
  });

  it('only the requests that match, in the order of the rules, as often as told', async () => {
    twin.faults.add({ match: { model: 'a' }, fault: { type: 'status', status: 500 } });
    twin.faults.add({ match: { model: 'a' }, fault: { type: 'status', status: 501 } });
    twin.faults.add({ match: { stream: true, model: 'b' }, times: 2, fault: { type: 'status', status: 502 } });
    const statusOf = async (body: object): Promise<number> => (await ask(twin, body)).status;
    assert.equal(await statusOf({ model: 'c' }), 200);
    assert.equal(await statusOf({ model: 'b' }), 200);
    assert.equal(await statusOf({ model: 'a' }), 500);
    assert.equal(await statusOf({ model: 'a' }), 501);
    assert.equal(await statusOf({ model: 'a' }), 200);
    assert.equal(await statusOf({ model: 'b', stream: true }), 502);
    assert.equal(twin.faults.list()[0]?.remaining, 1);
    assert.equal(await statusOf({ model: 'b', stream: true }), 502);
    assert.equal(await statusOf({ model: 'b', stream: true }), 200);
  });

  it('over HTTP: rules are added, listed, and last until cleared when they have no limit', async () => {
    const id = newId();
    const rule = { match: { request_id: id }, times: null, fault: { type: 'status', status: 500 } };
    const added = await control.call<{ id: string }>('POST', 'faults', rule);
    assert.equal(added.status, 201);
    assert.match(added.body.id, /^fault-/);
    const listed = await control.show<{ data: { id: string; remaining: number | null }[] }>('faults');
    assert.deepEqual(
      listed.data.map(({ id: ruleId, remaining }) => [ruleId, remaining]),
      [[added.body.id, null]],
    );
    for (let call = 0; call < 3; call += 1) assert.equal((await ask(twin, {}, id)).status, 500);
    assert.equal(record(twin, id).attempts, 3);
    await control.call('DELETE', 'faults');
    assert.equal((await ask(twin, {}, id)).status, 200);
  });
});
