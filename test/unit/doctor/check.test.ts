/** How checks run and report: no check delays the others, and no line holds a secret. */
import assert from 'node:assert/strict';
import { fault, ok, runChecks, warning, type Check } from '../../../doctor/check.ts';
import { clockFinding } from '../../../doctor/checks/clock.ts';
import { jsonOf, textOf, withoutSecrets, worstOf } from '../../../doctor/report.ts';
import { databaseAddresses, secretsOf } from '../../../doctor/settings.ts';

const check = (name: string, run: Check['run']): Check => ({ name, run, silentCure: 'look at it' });

describe('checks of a set-up', () => {
  it('a check that hangs and a check that throws are faults of their own; the others are reported in order', async () => {
    let isAborted = false;
    const lines = await runChecks(
      [
        check('hangs', (signal) => {
          signal.addEventListener('abort', () => (isAborted = true));
          return new Promise(() => undefined);
        }),
        check('throws', () => Promise.reject(new Error('it broke', { cause: new Error('ECONNRESET') }))),
        check('fine', () => Promise.resolve([ok('all is well'), warning('or nearly', 'do that')])),
      ],
      0.05,
    );
    assert.deepEqual(lines, [
      { check: 'hangs', state: 'fault', message: 'no answer within 0.05 s', cure: 'look at it' },
      { check: 'throws', state: 'fault', message: 'cannot be checked: it broke (ECONNRESET)', cure: 'look at it' },
      { check: 'fine', state: 'ok', message: 'all is well' },
      { check: 'fine', state: 'warning', message: 'or nearly', cure: 'do that' },
    ]);
    assert.equal(isAborted, true);
    assert.equal(worstOf(lines), 'fault');
  });

  it('each check is one line, also where it quotes a text of many lines', () => {
    const lines = [
      { check: 'a', ...ok('well') },
      { check: 'longer', ...fault('an answer:\n<html>\n  no', 'ask\nagain') },
    ];
    assert.equal(
      textOf(lines),
      [
        'ok       a       well',
        'fault    longer  an answer: <html> no. Cure: ask again',
        '',
        '1 ok, 0 warnings, 1 faults',
      ].join('\n'),
    );
    assert.equal((JSON.parse(jsonOf(lines)) as { state: string }).state, 'fault');
  });

  it('no line has a key, password or secret path of an address, whatever quotes it', () => {
    const environment = {
      DATABASE_URL: 'postgres://holdfast:p%40ssw0rd@db.example/holdfast',
      STRIPE_SECRET_KEY: 'sk_live_abcdefghijkl',
      STRIPE_WEBHOOK_SECRETS: 'whsec_1111111111111111,whsec_2222222222222222',
      CHAIN_1_RPC_URLS: 'https://one.example/v2/abcdefghijklmnopqrst,https://two.example/?apikey=qwertyuiopasdfgh',
      UPSTREAM_A_KEY: 'provider-key',
      UPSTREAM_A_KEY_HOSTS: 'api.provider.example',
    };
    const quoted = Object.values(environment).join(' ') + ' p@ssw0rd whsec_2222222222222222 abcdefghijklmnopqrst';
    const [line] = withoutSecrets([{ check: 'x', ...fault(quoted, quoted) }], secretsOf(environment));
    for (const secret of ['ssw0rd', 'sk_live', 'whsec_', 'abcdefghijklmnopqrst', 'qwertyuiop', 'provider-key']) {
      assert.equal(JSON.stringify(line).includes(secret), false, secret);
    }
    assert.match(line!.message, /db\.example\/holdfast .*one\.example\/v2\/\*\*\*,.*api\.provider\.example/);
  });

  it('the address of each role follows the rule of the processes', () => {
    const environment = {
      DATABASE_URL: 'postgres://a/x',
      DATABASE_URL_REPORTER: 'postgres://b/x',
      DATABASE_URL_WORKER: '',
    };
    assert.deepEqual(databaseAddresses(environment, ['worker', 'reporter']), [
      { role: 'worker', url: 'postgres://a/x', variable: 'DATABASE_URL' },
      { role: 'reporter', url: 'postgres://b/x', variable: 'DATABASE_URL_REPORTER' },
    ]);
  });

  for (const [seconds, state] of [
    [0, 'ok'],
    [-29, 'ok'],
    [31, 'warning'],
    [-300, 'warning'],
    [301, 'fault'],
    [-360, 'fault'],
  ] as const) {
    it(`a clock that is ${seconds} s ahead: ${state}`, () => {
      const finding = clockFinding(seconds, 'Stripe');
      assert.equal(finding.state, state);
      if (state !== 'ok') assert.match(finding.message, seconds > 0 ? /ahead of Stripe/ : /behind Stripe/);
    });
  }
});
