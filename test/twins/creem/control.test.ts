/** The Creem twin's control interface: calls that fail as it was told, and controls that it refuses by name. */
import assert from 'node:assert/strict';

import type { Creem } from 'creem';

import type { CreemTwin } from '../../../twins/creem/twin.ts';
import { TwinControl } from '../../support/twin-control.ts';
import { clientOf, isRefused, order, startTwin } from './fixture.ts';

describe('creem twin: control', () => {
  let twin: CreemTwin;
  let creem: Creem;
  const control = new TwinControl(() => twin.url);

  beforeEach(async () => {
    twin = await startTwin();
    creem = clientOf(twin);
  });
  afterEach(() => twin.close());

  it('loses the answer of a call that it has carried out, and refuses as it is told', async () => {
    await control.steer('faults', {
      on: 'api',
      match: { method: 'POST' },
      fault: { drop_response_after_commit: true },
    });
    await assert.rejects(order(creem, 'lost'));
    assert.deepEqual(
      twin.checkouts().map(({ request_id }) => request_id),
      ['lost'],
    );
    await control.steer('faults', { on: 'api', fault: { fail_status: 500 } });
    await assert.rejects(order(creem, 'failed'), isRefused(500));
    await control.steer('faults', { on: 'api', fault: { rate_limit: true } });
    await assert.rejects(order(creem, 'limited'), isRefused(429));
    assert.equal(twin.checkouts().length, 1);
  });

  it('refuses controls that it does not know, by name', async () => {
    const { id } = await order(creem);
    const answer = await control.call<{ error: { field: string } }>('POST', `checkouts/${id}/pay`, { subtotal: 1 });
    assert.deepEqual([answer.status, answer.body.error.field], [400, 'subtotal']);
    assert.equal((await control.call('POST', 'nonsense')).status, 404);
    assert.equal((await control.call('POST', 'checkouts/ch_none/pay')).status, 404);
  });
});
