/** The worker's configuration: defaults that fit together, and combinations that would break a promise refused. */
import assert from 'node:assert/strict';
import { HDNodeWallet } from 'ethers';
import { parseWorkerConfig } from '../../../worker/config.ts';
import { ConfigError } from '../../../runtime/environment.ts';

const LEAST = { DATABASE_URL: 'postgres://user:secret@host/db', TEMPORAL_ADDRESS: 'temporal:7233' };

describe('configuration of the worker', () => {
  it('the worker needs a database and a Temporal, and has the documented durations', () => {
    const config = parseWorkerConfig(LEAST);
    assert.equal(config.sweepIntervalSeconds, 15);
    assert.deepEqual(
      [config.sweep.finishedAgeSeconds, config.sweep.gatewayGoneSeconds, config.sweep.evidenceSeconds],
      [30, 30, 600],
    );
    assert.deepEqual(config.namespaces, { requests: 'holdfast-requests', processes: 'holdfast' });
  });

  it('a gap between two sweeps counts as an outage before a silent gateway counts as gone', () => {
    const { sweep, sweepIntervalSeconds } = parseWorkerConfig(LEAST);
    assert.ok(sweep.reachabilityGapSeconds > sweepIntervalSeconds, 'two sweeps in time are no outage');
    assert.ok(sweep.reachabilityGapSeconds < sweep.gatewayGoneSeconds, 'an outage cannot hide between two sweeps');
  });

  for (const { interval, gone } of [
    { interval: '30', gone: '30' },
    { interval: '300', gone: '30' },
    { interval: '22.5', gone: '30' },
  ]) {
    it(`the worker refuses a sweep every ${interval} s with gateways gone after ${gone} s: an outage could pass unnoticed`, () => {
      assert.throws(
        () => parseWorkerConfig({ ...LEAST, SWEEP_INTERVAL_SECONDS: interval, GATEWAY_GONE_SECONDS: gone }),
        (error: unknown) => error instanceof ConfigError && /GATEWAY_GONE_SECONDS/.test(error.message),
      );
    });
  }

  it('a wallet with a typing error is refused, which would give out addresses of nobody', () => {
    const wallet = HDNodeWallet.createRandom().neuter().extendedKey;
    const broken = wallet.slice(0, -1) + (wallet.endsWith('1') ? '2' : '1');
    const chain = { ...LEAST, CHAIN_1_RPC_URLS: 'http://a.test,http://b.test' };
    assert.equal(parseWorkerConfig({ ...chain, CRYPTO_XPUB: wallet }).payments.crypto?.xpub, wallet);
    assert.throws(
      () => parseWorkerConfig({ ...chain, CRYPTO_XPUB: broken }),
      /CRYPTO_XPUB: must be an extended public key/,
    );
  });

  it('the worker reports every bad variable at once and never a value', () => {
    assert.throws(
      () => parseWorkerConfig({ DATABASE_URL: 'mysql://user:secret@host/db', EVIDENCE_SECONDS: '0' }),
      (error: unknown) => {
        assert.ok(error instanceof ConfigError);
        for (const name of ['DATABASE_URL', 'TEMPORAL_ADDRESS', 'EVIDENCE_SECONDS']) {
          assert.ok(error.message.includes(name), name);
        }
        assert.doesNotMatch(error.message, /secret/);
        return true;
      },
    );
  });
});
