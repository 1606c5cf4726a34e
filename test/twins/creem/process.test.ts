/** The Creem twin as a process of its own: what it keeps when it is killed, and what it does not start with. */
import assert from 'node:assert/strict';
import { join } from 'node:path';

import { TwinControl } from '../../support/twin-control.ts';
import { complaintOf, TwinProcesses, type TwinProcess } from '../../support/twin-process.ts';
import { WebhookEndpoint } from '../../support/webhook-endpoint.ts';
import { clientOf, PRODUCT, SECRET, untilReceived } from './fixture.ts';

describe('creem twin as a process', () => {
  let twins: TwinProcesses;
  let endpoint: WebhookEndpoint;
  const control = new TwinControl(() => twins.latest.url);

  beforeEach(async () => {
    twins = new TwinProcesses('creem');
    endpoint = await WebhookEndpoint.start();
  });
  afterEach(async () => {
    await twins.end();
    await endpoint.close();
  });

  function start(): Promise<TwinProcess> {
    return twins.start({
      TWIN_PORT: '0',
      TWIN_PRODUCT_ID: PRODUCT,
      TWIN_TAX_PPM: '0',
      TWIN_WEBHOOK_URL: endpoint.url,
      TWIN_WEBHOOK_SECRETS: SECRET,
      TWIN_DATA_FILE: join(twins.folder, 'creem.json'),
    });
  }

  it('keeps what it was told through a kill, and sends what was not delivered at the next start', async () => {
    endpoint.answer = () => 503;
    const killed = await start();
    const made = await clientOf(killed).checkouts.create({ productId: PRODUCT, requestId: 'kept', customPrice: 700 });
    await control.steer(`checkouts/${made.id}/pay`);
    await untilReceived(endpoint, 1);
    await killed.stop('SIGKILL');
    endpoint.answer = () => 200;
    endpoint.received.length = 0;
    const again = await start();
    const checkout = await clientOf(again).checkouts.retrieve(made.id);
    assert.deepEqual([checkout.status, checkout.order?.amountPaid], ['completed', 700]);
    await untilReceived(endpoint, 1);
  });

  it('says which variable is wrong, and does not start', async () => {
    assert.match(await complaintOf('creem', { TWIN_PORT: 'x' }), /'TWIN_PORT' must be a whole number/);
  });
});
