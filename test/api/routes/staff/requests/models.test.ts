/** The catalogue over HTTP: models, upstreams and prices that never change once published. */
import assert from 'node:assert/strict';
import { loadModels } from '../../../../../db/requests/catalogue.ts';
import { pick, readPages, refusal, rowsOf, startManagement, type Management } from '../../management.ts';

const UPSTREAM = {
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
  prices: { input: '0.15', output: '0.6' },
};

describe('/admin/models', () => {
  let management: Management;
  before(async () => {
    management = await startManagement('routes_models');
  });
  after(() => management.stop());

  const create = async (id: string, given: object = {}) => {
    const answer = await management.call('POST', '/admin/models', { body: { id, ...MODEL, ...given } });
    assert.equal(answer.status, 201, answer.text);
    return answer.body;
  };
  const show = (id: string) => management.call('GET', `/admin/models/${id}`);
  const versionsOf = (body: Readonly<Record<string, unknown>>) => body['versions'] as Record<string, unknown>[];
  const publish = (id: string, body: object) => management.call('POST', `/admin/models/${id}/price-versions`, { body });
  const inSeconds = (seconds: number) => new Date(Date.now() + seconds * 1000).toISOString();

  it('a model is added with prices that are in force at once', async () => {
    const model = await create('acme/one');
    assert.deepEqual(
      pick(model, 'id', 'dialect', 'context_length', 'request_timeout_seconds', 'retired_at', 'version_in_force'),
      ['acme/one', 'openai', 128_000, 600, null, 1],
    );
    assert.deepEqual(model['upstreams'], [UPSTREAM]);
    assert.deepEqual(versionsOf(model)[0]!['prices'], { input: '0.15', output: '0.6' });
    assert.match(String(versionsOf(model)[0]!['created_by']), /^the operator /);
    const loaded = await loadModels(management.gateway);
    assert.equal(loaded.find(({ id }) => id === 'acme/one')?.versions.length, 1);
  });

  it('a model is found with its slashes plain or encoded, colons too', async () => {
    await create('acme/deep/er:free', { prices: {}, upstreams: [{ ...UPSTREAM, api_key_env: null }] });
    for (const path of ['acme/deep/er:free', 'acme%2Fdeep%2Fer%3Afree', 'acme/deep%2Fer:free']) {
      assert.equal((await show(path)).body['id'], 'acme/deep/er:free', path);
    }
    const answer = await publish('acme%2Fdeep%2Fer:free', { prices: {}, valid_from: inSeconds(400) });
    assert.equal(answer.status, 201, 'a free model may have a version without prices');
    for (const path of ['acme', 'acme/deep', 'acme/deep/er:free/', 'acme//one', 'acme/none']) {
      assert.equal(refusal(await show(path)).code, 'not_found', path);
    }
  });

  it('a model with a taken id, also of a retired model, is refused', async () => {
    await create('acme/taken');
    for (let round = 0; round < 2; round++) {
      const again = await management.call('POST', '/admin/models', { body: { id: 'acme/taken', ...MODEL } });
      assert.deepEqual(refusal(again), { status: 409, code: 'conflict', param: 'id' });
      if (round === 0) await management.call('POST', '/admin/models/acme/taken/retire');
    }
  });

  it('everything of a model but its prices can be changed', async () => {
    await create('acme/change');
    const path = '/admin/models/acme/change';
    const upstreams = [{ ...UPSTREAM, model: 'other', lookup: null, usage_request: 'none' }];
    const changed = await management.call('PATCH', path, {
      body: { upstreams, request_timeout_seconds: 30.5, context_length: 5 },
    });
    assert.deepEqual(
      pick(changed.body, 'context_length', 'default_output_tokens', 'request_timeout_seconds'),
      [5, 4096, 30.5],
    );
    assert.deepEqual(changed.body['upstreams'], upstreams);
    assert.equal(versionsOf(changed.body).length, 1);
    assert.equal(refusal(await management.call('PATCH', path, { body: { prices: {} } })).param, 'prices');
    assert.equal(refusal(await management.call('PATCH', '/admin/models/acme/none', { body: {} })).code, 'not_found');
  });

  it('a model is careful by default, and says how a body is limited', async () => {
    const model = await create('acme/careful');
    assert.deepEqual(
      pick(model, 'hidden_output', 'image_tokens', 'web_search_input_tokens', 'passthrough_fields', 'max_body_bytes'),
      [true, null, null, [], 128_000 * 12 + 65_536],
    );
  });

  it('a model keeps each property beside its prices until it is changed', async () => {
    const given = {
      hidden_output: false,
      image_tokens: { formula: 'gpt-4o-mini', max: 40_000 },
      audio_tokens_per_second: 32,
      web_search_input_tokens: 8000,
      passthrough_fields: ['vendor_option', '__proto__'],
      upstreams: [{ ...UPSTREAM, limit_field: 'max_tokens', usage_request: 'none' }],
    };
    const names = Object.keys(given);
    assert.deepEqual(pick(await create('acme/traits', given), ...names), Object.values(given));
    const path = '/admin/models/acme/traits';
    const change = { image_tokens: null, passthrough_fields: [] };
    const changed = await management.call('PATCH', path, { body: change });
    assert.deepEqual(pick(changed.body, ...names), Object.values({ ...given, ...change }));
    const loaded = (await loadModels(management.gateway)).find(({ id }) => id === 'acme/traits')!;
    assert.deepEqual(
      [loaded.hiddenOutput, loaded.imageTokens, loaded.webSearchInputTokens, loaded.passthroughFields],
      [false, null, 8000, []],
    );
  });

  it('a model is retired and offered again, once each, and gateways see it', async () => {
    await create('acme/retire');
    const offered = async () => (await loadModels(management.gateway)).some(({ id }) => id === 'acme/retire');
    const retired = await management.call('POST', '/admin/models/acme/retire/retire');
    assert.ok(retired.body['retired_at'] !== null);
    assert.equal(await offered(), false);
    assert.equal(refusal(await management.call('POST', '/admin/models/acme/retire/retire')).status, 409);
    assert.equal((await management.call('POST', '/admin/models/acme/retire/unretire')).body['retired_at'], null);
    assert.equal(await offered(), true);
    assert.equal(refusal(await management.call('POST', '/admin/models/acme/retire/unretire')).status, 409);
    assert.equal(refusal(await management.call('POST', '/admin/models/acme/none/retire')).code, 'not_found');
  });

  it('models are listed by id in pages, with retired ones', async () => {
    const ids = (await readPages(management, '/admin/models', { limit: 2 })).map((row) => String(row['id']));
    assert.deepEqual(ids, [...ids].sort());
    assert.ok(ids.includes('acme/taken'));
  });

  describe('price versions', () => {
    it('a price version takes effect no sooner than gateways can know it, and keeps the former ones', async () => {
      await create('acme/price');
      const soon = await publish('acme/price', { prices: { input: '1', output: '2' }, valid_from: inSeconds(200) });
      assert.deepEqual(refusal(soon), { status: 422, code: 'invalid_field', param: 'valid_from' });
      const at = inSeconds(400);
      const answer = await publish('acme/price', { prices: { input: '1', output: '2' }, valid_from: at });
      assert.equal(answer.status, 201);
      const [second, first] = versionsOf(answer.body);
      assert.deepEqual(
        [second!['version'], second!['valid_from'], second!['prices']],
        [2, at, { input: '1', output: '2' }],
      );
      assert.deepEqual(first!['prices'], { input: '0.15', output: '0.6' });
      assert.equal(answer.body['version_in_force'], 1);
      const before = await publish('acme/price', { prices: { input: '3', output: '3' }, valid_from: inSeconds(390) });
      assert.deepEqual(refusal(before), { status: 422, code: 'invalid_field', param: 'valid_from' });
    });

    it('a price version without a time begins as soon as allowed', async () => {
      await create('acme/default');
      const { body } = await publish('acme/default', { prices: { input: '1', output: '2' } });
      const validFrom = Date.parse(String(versionsOf(body)[0]!['valid_from']));
      assert.ok(Math.abs(validFrom - Date.now() - 300_000) < 20_000);
    });

    it('a price version keeps its tiers, windows and counting of reasoning', async () => {
      await create('acme/rich');
      const night = { input: '0.5', cached_input: '0.1', output: '1', second: '0' };
      const version = {
        prices: { input: '1', cached_input: '0.25', output: '2', second: '0.000000000001' },
        tiers: [{ min_input_tokens: 1000, prices: night }],
        windows: [
          { days: [1, 7], from: '22:00', to: '06:00', prices: night, tiers: [{ min_input_tokens: 9, prices: night }] },
        ],
        reasoning_in_output: false,
      };
      const { body } = await publish('acme/rich', version);
      const [published] = versionsOf(body);
      assert.deepEqual(pick(published!, ...Object.keys(version)), Object.values(version));
    });

    it('price versions published at once by many get their own numbers or are refused, never the same number', async () => {
      await create('acme/race');
      const answers = await Promise.all(
        Array.from({ length: 6 }, (_, index) =>
          publish('acme/race', { prices: { input: '1', output: '2' }, valid_from: inSeconds(1000 + index) }),
        ),
      );
      const published = answers.filter(({ status }) => status === 201).length;
      for (const answer of answers) if (answer.status !== 201) assert.equal(refusal(answer).param, 'valid_from');
      const versions = versionsOf((await show('acme/race')).body).map(({ version }) => version);
      assert.deepEqual(
        versions,
        Array.from({ length: published + 1 }, (_, index) => published + 1 - index),
      );
    });

    it('a model is refused with the field that is not valid', async () => {
      await create('acme/bad');
      const cases: [object, string][] = [
        [{}, 'prices'],
        [{ prices: {} }, 'prices'],
        [{ prices: { input: 1 } }, 'prices.input'],
        [{ prices: { input: '-1' } }, 'prices.input'],
        [{ prices: { input: '0.0000001' } }, 'prices.input'],
        [{ prices: { input: '1e-3' } }, 'prices.input'],
        [{ prices: { tokens: '1' } }, 'prices.tokens'],
        [{ prices: { input: '1' }, tiers: [{ min_input_tokens: 0, prices: {} }] }, 'tiers[0].min_input_tokens'],
        [
          {
            prices: { input: '1' },
            tiers: [
              { min_input_tokens: 5, prices: { input: '2' } },
              { min_input_tokens: 5, prices: { input: '3' } },
            ],
          },
          'tiers[1].min_input_tokens',
        ],
        [{ prices: { input: '1' }, tiers: [{ min_input_tokens: 5 }] }, 'tiers[0].prices'],
        [
          { prices: { input: '1' }, tiers: [{ min_input_tokens: 5, prices: { output: 'x' } }] },
          'tiers[0].prices.output',
        ],
        [{ prices: { input: '1' }, windows: [{ from: '25:00', to: '06:00', prices: {} }] }, 'windows[0].from'],
        [{ prices: { input: '1' }, windows: [{ from: '06:00', to: '06:00', prices: {} }] }, 'windows[0].to'],
        [
          { prices: { input: '1' }, windows: [{ days: [0], from: '06:00', to: '07:00', prices: {} }] },
          'windows[0].days',
        ],
        [
          { prices: { input: '1' }, windows: [{ days: ['mon'], from: '06:00', to: '07:00', prices: {} }] },
          'windows[0].days[0]',
        ],
        [{ prices: { input: '1' }, valid_from: 'now' }, 'valid_from'],
        [{ prices: { input: '1' }, valid_to: inSeconds(9999) }, 'valid_to'],
        [{ prices: { input: '1' }, reasoning_in_output: 'no' }, 'reasoning_in_output'],
      ];
      for (const [body, param] of cases) {
        assert.deepEqual(
          refusal(await publish('acme/bad', body)),
          { status: 422, code: 'invalid_field', param },
          JSON.stringify(body),
        );
      }
      assert.equal(refusal(await publish('acme/none', { prices: { input: '1' } })).code, 'not_found');
      assert.equal(versionsOf((await show('acme/bad')).body).length, 1);
    });
  });

  it('a model is refused with the field that is not valid', async () => {
    const upstream = (given: object) => ({ upstreams: [{ ...UPSTREAM, ...given }] });
    const cases: [object, string][] = [
      [{ id: '' }, 'id'],
      [{ id: 'x'.repeat(201) }, 'id'],
      [{ dialect: 'cohere' }, 'dialect'],
      [{ context_length: 0 }, 'context_length'],
      [{ context_length: 1.5 }, 'context_length'],
      [{ context_length: '128000' }, 'context_length'],
      [{ default_output_tokens: -1 }, 'default_output_tokens'],
      [{ default_output_tokens: 1e12 }, 'default_output_tokens'],
      [{ request_timeout_seconds: 0 }, 'request_timeout_seconds'],
      [{ request_timeout_seconds: 1e9 }, 'request_timeout_seconds'],
      [{ upstreams: [] }, 'upstreams'],
      [{ upstreams: 'https://x' }, 'upstreams'],
      [upstream({ base_url: 'ftp://x.test' }), 'upstreams[0].base_url'],
      [upstream({ base_url: 'nowhere' }), 'upstreams[0].base_url'],
      [upstream({ lookup: 'https://x.test/request' }), 'upstreams[0].lookup'],
      [upstream({ api_key_env: 'DATABASE_URL' }), 'upstreams[0].api_key_env'],
      [upstream({ api_key_env: 'sk-secret' }), 'upstreams[0].api_key_env'],
      [upstream({ model: '' }), 'upstreams[0].model'],
      [upstream({ weight: 3 }), 'upstreams[0].weight'],
      [upstream({ limit_field: 'limit' }), 'upstreams[0].limit_field'],
      [upstream({ usage_request: true }), 'upstreams[0].usage_request'],
      [{ hidden_output: 'no' }, 'hidden_output'],
      [{ image_tokens: { formula: 'gpt-1' } }, 'image_tokens.formula'],
      [{ image_tokens: { max: 0 } }, 'image_tokens.max'],
      [{ image_tokens: { tiles: 3 } }, 'image_tokens.tiles'],
      [{ audio_tokens_per_second: 0.5 }, 'audio_tokens_per_second'],
      [{ web_search_input_tokens: -1 }, 'web_search_input_tokens'],
      [{ passthrough_fields: 'seed' }, 'passthrough_fields'],
      [{ passthrough_fields: ['ok', 'a field'] }, 'passthrough_fields[1]'],
      [{ passthrough_fields: ['max_tokens'] }, 'passthrough_fields[0]'],
      [{ passthrough_fields: ['Stream_Options'] }, 'passthrough_fields[0]'],
      [{ max_body_bytes: 5 }, 'max_body_bytes'],
      [{ prices: { input: '0.0000001' } }, 'prices.input'],
      [{ price: {} }, 'price'],
    ];
    for (const [given, param] of cases) {
      const answer = await management.call('POST', '/admin/models', { body: { id: 'acme/wrong', ...MODEL, ...given } });
      assert.deepEqual(refusal(answer), { status: 422, code: 'invalid_field', param }, JSON.stringify(given));
    }
    assert.equal(refusal(await show('acme/wrong')).code, 'not_found');
  });

  it('every change of a model is recorded', async () => {
    await create('acme/record');
    await publish('acme/record', { prices: { input: '9', output: '9' } });
    await management.call('PATCH', '/admin/models/acme/record', { body: { context_length: 7 } });
    await management.call('POST', '/admin/models/acme/record/retire');
    const { body } = await management.call('GET', '/admin/actions?subject=acme/record');
    assert.deepEqual(
      rowsOf(body).map((row) => row['action']),
      ['model.retire', 'model.change', 'model.price', 'model.create'],
    );
    assert.deepEqual(rowsOf(body)[1]!['details'], { context_length: 7 });
  });
});
