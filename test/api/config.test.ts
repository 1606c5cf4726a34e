/** What the api makes of its environment where that is more than a plain value. */
import assert from 'node:assert/strict';
import { parseApiConfig } from '../../api/config.ts';

const REQUIRED = { DATABASE_URL: 'postgres://x@127.0.0.1/x', TEMPORAL_ADDRESS: '127.0.0.1:7233' };

describe('configuration of receipts', () => {
  const receipts = (env: Record<string, string>) => parseApiConfig({ ...REQUIRED, ...env }).receipts;

  it('takes line ends of both kinds', () => {
    assert.deepEqual(
      receipts({ RECEIPT_SELLER: 'Acme Ltd.\\n 1 Road \nBristol\n', RECEIPT_FOOTER: 'No VAT.\\nThanks.' }),
      {
        seller: ['Acme Ltd.', '1 Road', 'Bristol'],
        footer: 'No VAT.\nThanks.',
      },
    );
  });

  it('has a seller also when none is set', () => {
    for (const env of [{}, { RECEIPT_SELLER: '' }])
      assert.deepEqual(receipts(env), { seller: ['Holdfast'], footer: '' });
  });
});
