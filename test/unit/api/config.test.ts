/** Settings of the api that are more than a plain value. */
import assert from 'node:assert/strict';
import { parseApiConfig } from '../../../api/config.ts';

const REQUIRED = { DATABASE_URL: 'postgres://x@127.0.0.1/x', TEMPORAL_ADDRESS: '127.0.0.1:7233' };

describe('configuration of receipts', () => {
  const receipts = (env: Record<string, string>) => parseApiConfig({ ...REQUIRED, ...env }).receipts;

  it('the seller of receipts takes line ends of both kinds', () => {
    assert.deepEqual(
      receipts({ RECEIPT_SELLER: 'Acme Ltd.\\n 1 Road \nBristol\n', RECEIPT_FOOTER: 'No VAT.\\nThanks.' }),
      {
        seller: ['Acme Ltd.', '1 Road', 'Bristol'],
        footer: 'No VAT.\nThanks.',
      },
    );
  });

  it('receipts have a seller also when none is set', () => {
    for (const env of [{}, { RECEIPT_SELLER: '' }])
      assert.deepEqual(receipts(env), { seller: ['Holdfast'], footer: '' });
  });
});

describe('configuration of bodies and heartbeat', () => {
  it('settings that contradict each other are named', () => {
    assert.throws(
      () =>
        parseApiConfig({
          ...REQUIRED,
          BODY_LIMIT_BYTES: '100000000',
          BODY_MEMORY_BYTES: '50000000',
          HEARTBEAT_SECONDS: '60',
        }),
      ({ message }: Error) =>
        ['BODY_MEMORY_BYTES_PER_ACCOUNT: ', 'BODY_MEMORY_BYTES: ', 'GATEWAY_STALLED_SECONDS: '].every((name) =>
          message.includes(name),
        ),
    );
  });

  it('the defaults fit together, and a lower or higher limit is taken with its memory', () => {
    parseApiConfig(REQUIRED);
    parseApiConfig({ ...REQUIRED, BODY_LIMIT_BYTES: '100000' });
    parseApiConfig({ ...REQUIRED, BODY_LIMIT_BYTES: '100000000', BODY_MEMORY_BYTES_PER_ACCOUNT: '200000000' });
  });
});
