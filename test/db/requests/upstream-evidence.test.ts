/**
 * Failures at the provider are stored on the request's own row, whichever of the two finish functions stores it.
 */
import assert from 'node:assert/strict';
import { finishRequests, placeFreeHolds, placeHolds, type FinishRecord } from '../../../db/requests/requests.ts';
import type { RequestUuid } from '../../../domain/ids.ts';
import type { UpstreamEvidence } from '../../../domain/requests/upstream-evidence.ts';
import { customerWithKey } from '../../support/finished-requests.ts';
import { createLedgerDatabase, endOf, holdOf, type LedgerDatabase } from '../../support/ledger-database.ts';

const REFUSED: UpstreamEvidence = {
  name: '1:api.example.com',
  kind: 'credentials',
  status: 401,
  code: 'invalid_api_key',
  message: 'Incorrect API key provided',
};
const SAVED_BY_THE_SECOND: UpstreamEvidence = {
  name: '2:api.example.com',
  kind: 'fallback',
  status: 200,
  code: null,
  message: null,
};

describe('evidence of an upstream', function () {
  this.timeout(30_000);
  let ledger: LedgerDatabase;

  before(async () => {
    ledger = await createLedgerDatabase('upstream_evidence');
  });
  after(() => ledger.database.drop());

  const stored = async (ids: readonly RequestUuid[]): Promise<unknown[]> => {
    const { rows } = await ledger.admin.query<{ id: string; evidence: unknown[] }>(
      `select id, json_build_array(upstream_name, upstream_kind, upstream_status, upstream_code, upstream_message) as evidence
        from request where id = any ($1)`,
      [ids],
    );
    return ids.map((id) => rows.find((row) => row.id === id)?.evidence);
  };

  const held = async (free: boolean): Promise<RequestUuid[]> => {
    const key = await customerWithKey(ledger, '10');
    const holds = [1, 2, 3].map(() => holdOf(key, '1'));
    if (free) await placeFreeHolds(ledger.gateway, holds);
    else await placeHolds(ledger.gateway, holds);
    return holds.map(({ requestId }) => requestId);
  };

  const ENDS = [
    { upstream: REFUSED, outcome: 'upstream_error', listCost: '0' },
    { upstream: SAVED_BY_THE_SECOND, outcome: 'completed', listCost: '0.5' },
    { upstream: null, outcome: 'completed', listCost: '0.5' },
  ] as const;
  const EVIDENCE = [
    ['1:api.example.com', 'credentials', 401, 'invalid_api_key', 'Incorrect API key provided'],
    ['2:api.example.com', 'fallback', 200, null, null],
    [null, null, null, null, null],
  ];

  for (const free of [false, true]) {
    it(`evidence is stored one by one and in a batch, and nothing for a plain answer${free ? ', on :free rows too' : ''}`, async () => {
      for (const together of [false, true]) {
        const ids = await held(free);
        const ends: FinishRecord[] = ENDS.map(({ listCost, ...given }, index) =>
          endOf(ids[index]!, free ? '0' : listCost, given),
        );
        if (together) await finishRequests(ledger.gateway, ends);
        else for (const end of ends) await finishRequests(ledger.gateway, [end]);
        assert.deepEqual(await stored(ids), EVIDENCE);
      }
    });
  }

  it('no characters of a provider keep an end from being recorded', async () => {
    const ids = await held(false);
    const message = 'a\0b\ud800c "quoted" \\u0000';
    const ends = ids.map((id) => endOf(id, '0.5', { upstream: { ...REFUSED, message, code: '\0' } }));
    assert.deepEqual(await finishRequests(ledger.gateway, ends), ['finished', 'finished', 'finished']);
    assert.deepEqual((await stored(ids))[0], ['1:api.example.com', 'credentials', 401, '', 'abc "quoted" \\u0000']);
  });
});
