/**
 * Changes of the rules of money over HTTP: a change that pays out more, gives work away or sends prompts elsewhere
 * needs a second person, and the ceilings of the configuration nobody exceeds.
 */
import assert from 'node:assert/strict';
import { createAccessToken } from '../../../../../db/accounts/access-tokens.ts';
import { loadModels, type Upstream } from '../../../../../db/requests/catalogue.ts';
import { formatId, uuidOf } from '../../../../../domain/ids.ts';
import { brokenRules } from '../../../../support/ledger-database.ts';
import { pick, refusal, rowsOf, startManagement, textOf, type Answer, type Management } from '../../management.ts';

const UPSTREAM: Upstream = {
  base_url: 'https://api.provider.test/v1',
  api_key_env: 'UPSTREAM_PROVIDER_KEY',
  model: 'theirs',
  lookup: null,
};
const MODEL = {
  dialect: 'openai',
  context_length: 128_000,
  default_output_tokens: 4096,
  upstreams: [UPSTREAM],
  prices: { input: '1', output: '2' },
};

describe('/admin/changes', () => {
  let management: Management;
  /** A second person. */
  let second: string;
  before(async () => {
    management = await startManagement('routes_changes');
    ({ secret: second } = await createAccessToken(management.management, {
      role: 'operator',
      accountId: null,
      name: 'second',
    }));
  });
  after(async () => {
    assert.deepEqual(await brokenRules(management.admin), []);
    await management.stop();
  });

  /** Of an answer that waits. */
  const changeOf = (answer: Answer): string => {
    assert.deepEqual([answer.status, answer.body['state']], [202, 'waiting'], answer.text);
    return textOf(answer.body, 'id');
  };
  const decide = (id: string, decision: 'approve' | 'reject', token = second): Promise<Answer> =>
    management.call('POST', `/admin/changes/${id}/${decision}`, { token });
  const approved = async (id: string): Promise<Answer['body']> => {
    const answer = await decide(id, 'approve');
    assert.deepEqual([answer.status, answer.body['state']], [200, 'applied'], answer.text);
    return answer.body;
  };

  /** Asks, sees that nothing has changed, that its own requester cannot approve, and that a second person can, once. */
  async function takesTwo(ask: () => Promise<Answer>, read: () => Promise<unknown>): Promise<void> {
    const before = await read();
    const id = changeOf(await ask());
    assert.deepEqual(await read(), before, 'nothing has changed yet');
    assert.deepEqual(
      pick(refusal(await decide(id, 'approve', management.tokens.operator)) as never, 'status', 'code'),
      [403, 'forbidden'],
    );
    assert.deepEqual(await read(), before);
    const listed = rowsOf((await management.call('GET', '/admin/approvals')).body).find((row) => row['id'] === id);
    assert.deepEqual(pick(listed!, 'kind', 'approved_by'), ['change', []]);
    const body = await approved(id);
    assert.notDeepEqual(await read(), before);
    assert.deepEqual((await decide(id, 'approve')).body, body, 'a repeat changes nothing');
    assert.equal(refusal(await decide(id, 'reject')).status, 409);
    assert.deepEqual((await management.call('GET', `/admin/changes/${id}`)).body, body);
    const actions = rowsOf((await management.call('GET', `/admin/actions?subject=${id}`)).body);
    assert.deepEqual(
      actions.map((row) => row['action']),
      ['change.approve', 'change.request'],
    );
  }

  describe('commissions', () => {
    const rule = {
      rate_ppm: 100_000,
      hold_days: 14,
      final_hold_days: 3,
      dispute_days: 30,
      reason: 'terms of the year',
    };
    const publish = (given: object): Promise<Answer> =>
      management.call('POST', '/admin/commission-rules', { body: { ...rule, ...given } });
    const rules = async () => rowsOf((await management.call('GET', '/admin/commission-rules')).body);
    before(async () => {
      const standing = await publish({});
      if (standing.status === 202) await approved(changeOf(standing));
    });

    it('a rule that pays more, or sooner, by any of its terms takes a second person', async () => {
      for (const given of [{ rate_ppm: 100_001 }, { hold_days: 13 }, { final_hold_days: 2 }, { dispute_days: 29 }]) {
        await takesTwo(() => publish(given), rules);
        // Back to the standing terms, which pay less: one person may.
        assert.equal((await publish({})).status, 201);
      }
    });

    it('nobody exceeds the ceiling: 100 % for a day is refused, not asked for', async () => {
      for (const [given, param] of [
        [{ rate_ppm: 1_000_000, hold_days: 0 }, 'rate_ppm'],
        [{ rate_ppm: 500_001 }, 'rate_ppm'],
      ] as const) {
        assert.deepEqual(refusal(await publish(given)), { status: 422, code: 'invalid_field', param });
      }
    });

    it('a rule that lost its race is compared with the rule in force when it takes effect', async () => {
      const answers = await Promise.all([publish({ rate_ppm: 90_000 }), publish({ rate_ppm: 100_000 })]);
      const made = answers.filter(({ status }) => status === 201).length;
      // 100 000 first and 90 000 after it are both no more than what stood before them; the other way round one waits.
      assert.ok(made === 2 || made === 1);
      for (const answer of answers) if (answer.status === 202) await decide(changeOf(answer), 'reject');
      if (made === 1) await approved(changeOf(await publish({ rate_ppm: 100_000 })));
    });

    it("an affiliate's own rate above the standing one takes a second person, and one above the ceiling nobody sets", async () => {
      const account = formatId('account', management.accountId);
      // The first call makes the affiliate.
      assert.equal((await management.call('GET', '/api/affiliate')).status, 200);
      const set = (rate_ppm: number | null): Promise<Answer> =>
        management.call('PATCH', `/admin/affiliates/${account}`, { body: { rate_ppm, reason: 'a partner' } });
      const rate = async () => (await management.call('GET', `/admin/affiliates/${account}`)).body['rate_ppm'];
      assert.equal((await set(50_000)).status, 200);
      await takesTwo(() => set(400_000), rate);
      assert.equal(await rate(), 400_000);
      assert.deepEqual(refusal(await set(500_001)), { status: 422, code: 'invalid_field', param: 'rate_ppm' });
      assert.equal((await set(null)).status, 200);
    });
  });

  describe('models', () => {
    const create = async (id: string, given: object = {}): Promise<Answer> =>
      management.call('POST', '/admin/models', { body: { id, ...MODEL, ...given } });
    const show = async (id: string) => (await management.call('GET', `/admin/models/${id}`)).body;
    const versions = async (id: string) => (await show(id))['versions'];
    const upstreams = async (id: string) => (await show(id))['upstreams'];
    const publish = (id: string, prices: object): Promise<Answer> =>
      management.call('POST', `/admin/models/${id}/price-versions`, { body: { prices } });
    const change = (id: string, body: object): Promise<Answer> =>
      management.call('PATCH', `/admin/models/${id}`, { body });

    it('a price of 0, a price left out and a cut to almost nothing take a second person', async () => {
      for (const [index, prices] of [
        { input: '1', output: '0' },
        { input: '1' },
        { input: '0.01', output: '2' },
      ].entries()) {
        const id = `acme/cheap-${index}`;
        assert.equal((await create(id)).status, 201);
        await takesTwo(
          () => publish(id, prices),
          () => versions(id),
        );
      }
      assert.equal((await create('acme/dearer')).status, 201);
      assert.equal((await publish('acme/dearer', { input: '1', output: '3' })).status, 201);
    });

    it('a new model that costs nothing is made without prices, and cannot be paid for until they are approved', async () => {
      const made = await create('acme/gift', { prices: { input: '0', output: '0' } });
      assert.deepEqual([made.status, made.body['version_in_force']], [202, null]);
      const waiting = rowsOf((await management.call('GET', '/admin/approvals')).body)[0]!;
      assert.deepEqual(pick(waiting, 'kind', 'change_kind', 'subject'), ['change', 'price_version', 'acme/gift']);
      await approved(textOf(waiting, 'id'));
      assert.equal((await show('acme/gift'))['version_in_force'] === null, false);
    });

    it('a :free model that a provider is paid for is offered when a second person approves, by whatever way', async () => {
      const free = { prices: {} };
      const keyless = [{ ...UPSTREAM, api_key_env: null }];
      const offered = async (id: string) => (await loadModels(management.gateway)).some((model) => model.id === id);
      const waitingFor = async (id: string): Promise<string> => {
        const rows = rowsOf((await management.call('GET', '/admin/approvals')).body);
        const row = rows.find(({ kind, subject }) => kind === 'change' && subject === id);
        return textOf(row!, 'id');
      };
      const made = await create('acme/gift:free', free);
      assert.equal(made.status, 202, made.text);
      assert.equal(await offered('acme/gift:free'), false);
      const offer = () => management.call('POST', '/admin/models/acme/gift:free/unretire');
      const id = changeOf(await offer());
      assert.equal(await offered('acme/gift:free'), false, 'taking it back from retirement is no way around');
      assert.equal(refusal(await decide(id, 'approve', management.tokens.operator)).status, 403);
      await decide(id, 'reject');
      await approved(await waitingFor('acme/gift:free'));
      assert.equal(await offered('acme/gift:free'), true);

      assert.equal((await create('acme/own:free', { ...free, upstreams: keyless })).status, 201);
      assert.equal(await offered('acme/own:free'), true, 'nobody is paid for it');
      await takesTwo(
        () => change('acme/own:free', { upstreams: [UPSTREAM] }),
        () => upstreams('acme/own:free'),
      );
      assert.equal((await management.call('POST', '/admin/models/acme/own:free/retire')).status, 200);
      await takesTwo(
        () => management.call('POST', '/admin/models/acme/own:free/unretire'),
        () => offered('acme/own:free'),
      );
    });

    it('a low price of the night takes a second person to be that of the day: 2 would cost 0.1', async () => {
      const low = { input: '0.1', output: '0.1' };
      const windows = [{ from: '03:00', to: '04:00', prices: low }];
      assert.equal((await create('acme/night', { windows })).status, 201);
      await takesTwo(
        () => publish('acme/night', low),
        () => versions('acme/night'),
      );
    });

    it('first prices that leave out what is paid for are prices of nothing: 1 for input, output free', async () => {
      const made = await create('acme/half', { prices: { input: '1' } });
      assert.deepEqual([made.status, made.body['version_in_force']], [202, null], made.text);
      assert.equal((await create('acme/by-request', { prices: { request: '0.01' } })).status, 201);
      assert.equal((await create('acme/unpriced', { prices: {} })).status, 201);
      assert.equal((await publish('acme/unpriced', { output: '1' })).status, 202);
    });

    it('another address for the prompts of a model with a key takes a second person; the order and the names do not', async () => {
      const other = { ...UPSTREAM, base_url: 'https://api.provider.test/v2' };
      assert.equal((await create('acme/moved')).status, 201);
      const of = () => upstreams('acme/moved');
      await takesTwo(() => change('acme/moved', { upstreams: [other] }), of);
      assert.deepEqual(await of(), [other]);
      await takesTwo(() => change('acme/moved', { upstreams: [other, UPSTREAM] }), of);
      const keyless = { base_url: 'http://10.0.0.5:9000/v1', api_key_env: null, model: 'x', lookup: null };
      await takesTwo(() => change('acme/moved', { upstreams: [other, keyless] }), of);
      const lookup = 'https://api.provider.test/r/{request_id}';
      await takesTwo(() => change('acme/moved', { upstreams: [{ ...other, lookup }, keyless] }), of);
      const renamed = [
        { ...keyless, model: 'y' },
        { ...other, lookup },
      ];
      assert.equal((await change('acme/moved', { upstreams: renamed })).status, 200);
      assert.equal((await change('acme/moved', { context_length: 5 })).status, 200);
      const loaded = (await loadModels(management.gateway)).find(({ id }) => id === 'acme/moved');
      assert.deepEqual(loaded?.upstreams, renamed);
    });

    it('taking the key away first does not open the way', async () => {
      assert.equal((await create('acme/two-steps')).status, 201);
      const keyless = [{ ...UPSTREAM, api_key_env: null }];
      changeOf(await change('acme/two-steps', { upstreams: keyless }));
      assert.deepEqual(await upstreams('acme/two-steps'), [UPSTREAM]);
    });

    it('an approval makes no change that the configuration no longer allows', async () => {
      assert.equal((await create('acme/late')).status, 201);
      const id = changeOf(
        await change('acme/late', { upstreams: [{ ...UPSTREAM, base_url: 'https://api.provider.test/v3' }] }),
      );
      await management.admin.query(
        `update change_request set change = jsonb_set(change, '{settings,upstreams,0,base_url}', '"https://evil.example/v1"')
         where id = $1`,
        [
          uuidOf(
            'change',
            `${id.slice(4, 12)}-${id.slice(12, 16)}-${id.slice(16, 20)}-${id.slice(20, 24)}-${id.slice(24)}`,
          ),
        ],
      );
      const answer = await decide(id, 'approve');
      assert.deepEqual(refusal(answer), { status: 422, code: 'invalid_field', param: 'upstreams[0].api_key_env' });
      assert.equal((await management.call('GET', `/admin/changes/${id}`)).body['state'], 'waiting');
      await decide(id, 'reject');
    });
  });

  it('a change approved by many at once is made once', async () => {
    await management.call('POST', '/admin/models', { body: { id: 'acme/race', ...MODEL } });
    const id = changeOf(
      await management.call('POST', '/admin/models/acme/race/price-versions', { body: { prices: { input: '1' } } }),
    );
    const answers = await Promise.all(Array.from({ length: 6 }, () => decide(id, 'approve')));
    for (const answer of answers) assert.equal(answer.status, 200, answer.text);
    const { body } = await management.call('GET', '/admin/models/acme/race');
    assert.equal((body['versions'] as unknown[]).length, 2);
  });

  it('a change withdrawn by its requester is never made', async () => {
    await management.call('POST', '/admin/models', { body: { id: 'acme/back', ...MODEL } });
    const id = changeOf(
      await management.call('POST', '/admin/models/acme/back/price-versions', { body: { prices: { output: '2' } } }),
    );
    assert.equal((await decide(id, 'reject', management.tokens.operator)).body['state'], 'rejected');
    assert.equal(refusal(await decide(id, 'approve')).status, 409);
    assert.equal(refusal(await decide('chg_01980000000070008000000000000000', 'approve')).code, 'not_found');
  });
});
