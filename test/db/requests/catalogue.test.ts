/** Models and their price versions: immutable, numbered, in force by time, announced ahead. */
import assert from 'node:assert/strict';
import {
  findPriceVersion,
  findUpstreams,
  loadCatalogue,
  loadModels,
  publishPrices,
  setModelRetired,
  versionAt,
  type CatalogueModel,
  type Model,
} from '../../../db/requests/catalogue.ts';
import { ledgerRefusal } from '../../../db/shared/client.ts';
import {
  behindTheGuards,
  createLedgerDatabase,
  uuidAt,
  withState,
  type LedgerDatabase,
} from '../../support/ledger-database.ts';
import { ANN } from '../../support/staff.ts';

const LEAD_SECONDS = 300;

function modelOf(id: string, prices: CatalogueModel['prices'], baseUrl = 'http://upstream.test/v1'): CatalogueModel {
  return {
    id,
    dialect: 'openai',
    context_length: 128_000,
    default_output_tokens: 1024,
    request_timeout_seconds: 12.5,
    upstreams: [{ base_url: baseUrl, api_key_env: null, model: 'upstream-model', lookup: null }],
    prices,
  };
}

describe('catalogue', () => {
  let ledger: LedgerDatabase;

  before(async () => {
    ledger = await createLedgerDatabase('catalogue');
  });
  after(() => ledger.database.drop());

  /** A new model with one price version in force. */
  async function pricedModel(): Promise<string> {
    const id = `demo/${uuidAt(Date.now())}`;
    await loadCatalogue(ledger.management, [modelOf(id, { input: '1', output: '2' })]);
    return id;
  }

  const publish = (modelId: string, input: string, validFrom: Date | null) =>
    publishPrices(ledger.management, {
      modelId,
      validFrom,
      prices: { prices: { input, output: '2' } },
      leadSeconds: LEAD_SECONDS,
      by: ANN,
    });
  const inSeconds = (seconds: number): Date => new Date(Date.now() + seconds * 1000);

  async function load(id: string): Promise<Model | undefined> {
    return (await loadModels(ledger.gateway)).find((model) => model.id === id);
  }

  it('a model comes back as it was written, with compiled prices', async () => {
    const id = await pricedModel();
    const { createdAt, versions, ...settings } = (await load(id))!;
    assert.ok(createdAt instanceof Date);
    assert.deepEqual(settings, {
      id,
      dialect: 'openai',
      contextLength: 128_000,
      defaultOutputTokens: 1024,
      requestTimeoutSeconds: 12.5,
      upstreams: [{ base_url: 'http://upstream.test/v1', api_key_env: null, model: 'upstream-model', lookup: null }],
      // What nobody has said of a model is what cannot lose money.
      hiddenOutput: true,
      imageTokens: null,
      audioTokensPerSecond: null,
      webSearchInputTokens: null,
      passthroughFields: [],
    });
    assert.deepEqual(
      versions.map(({ version }) => version),
      [1],
    );
    assert.deepEqual(versions[0]!.prices, await findPriceVersion(ledger.worker, id, 1));
  });

  it('properties of a model in a file are stored, and replaced by a later file', async () => {
    const id = `demo/${uuidAt(Date.now())}`;
    const entry = modelOf(id, { input: '1', output: '2' });
    const upstreams = [{ ...entry.upstreams[0]!, limit_field: 'max_tokens', usage_request: 'none' }] as const;
    const traits = {
      hidden_output: false,
      image_tokens: { formula: 'claude', max: 1000 },
      audio_tokens_per_second: 10,
      web_search_input_tokens: 8000,
      passthrough_fields: ['seed_extra'],
    } as const;
    await loadCatalogue(ledger.management, [{ ...entry, ...traits, upstreams }]);
    const model = (await load(id))!;
    assert.deepEqual(model.upstreams, upstreams);
    assert.deepEqual(
      [
        model.hiddenOutput,
        model.imageTokens,
        model.audioTokensPerSecond,
        model.webSearchInputTokens,
        model.passthroughFields,
      ],
      Object.values(traits),
    );
    await loadCatalogue(ledger.management, [{ ...entry, hidden_output: false }]);
    const later = (await load(id))!;
    assert.deepEqual(
      [later.hiddenOutput, later.imageTokens, later.webSearchInputTokens, later.passthroughFields],
      [false, null, null, []],
    );
  });

  it('the first version is in force at once, later ones after the lead time unless they say when', async () => {
    const id = await pricedModel();
    assert.ok(versionAt((await load(id))!, new Date()) !== null);
    const second = await publish(id, '3', null);
    assert.equal(second.version, 2);
    assert.ok(Math.abs(second.validFrom.getTime() - inSeconds(LEAD_SECONDS).getTime()) < 5000);
    const third = await publish(id, '4', inSeconds(LEAD_SECONDS + 60));
    assert.equal(third.version, 3);
  });

  it('the version in force changes at its first moment, not before', async () => {
    const id = await pricedModel();
    const { validFrom } = await publish(id, '3', inSeconds(LEAD_SECONDS + 1));
    const model = (await load(id))!;
    assert.equal(versionAt(model, new Date(validFrom.getTime() - 1))?.version, 1);
    assert.equal(versionAt(model, validFrom)?.version, 2);
    assert.equal(versionAt(model, new Date(0)), null);
  });

  it('gateways load the version in force and those to come; older ones stay findable for rating', async () => {
    const id = await pricedModel();
    await publish(id, '3', inSeconds(LEAD_SECONDS + 1));
    // Time passes: the first two versions have begun.
    await behindTheGuards(ledger.admin, (client) =>
      client.query("update price_version set valid_from = valid_from - interval '1 day' where model_id = $1", [id]),
    );
    await publish(id, '4', inSeconds(LEAD_SECONDS + 1));
    assert.deepEqual(
      (await load(id))!.versions.map(({ version }) => version),
      [2, 3],
    );
    assert.ok((await findPriceVersion(ledger.worker, id, 1)) !== null);
    assert.equal(await findPriceVersion(ledger.worker, id, 9), null);
  });

  it('two publishers at once never make two versions of one moment', async () => {
    const id = await pricedModel();
    const validFrom = inSeconds(LEAD_SECONDS + 10);
    const outcomes = await Promise.allSettled(Array.from({ length: 8 }, () => publish(id, '3', validFrom)));
    const refused = outcomes.filter((outcome) => outcome.status === 'rejected');
    assert.equal(refused.length, 7);
    for (const { reason } of refused) assert.equal(ledgerRefusal(reason)?.code, 'valid_from_not_after_last');
  });

  it('a published version cannot be changed or removed', async () => {
    const id = await pricedModel();
    for (const text of [
      "update price_version set prices = '{}' where model_id = $1",
      'delete from price_version where model_id = $1',
    ]) {
      await assert.rejects(ledger.admin.query(text, [id]), withState('HF900'));
      await assert.rejects(ledger.management.query(text, [id]), withState('42501'));
    }
  });

  it('a retired model is not offered, but its past stays known', async () => {
    const id = await pricedModel();
    assert.equal(await setModelRetired(ledger.management, id, true), true);
    assert.equal(await load(id), undefined);
    assert.ok((await findPriceVersion(ledger.worker, id, 1)) !== null);
    assert.equal((await findUpstreams(ledger.worker, id)).length, 1);
    assert.deepEqual(await findUpstreams(ledger.worker, 'demo/unknown'), []);
  });

  describe('loading a file', () => {
    it('loading a file again refreshes upstreams and never a price', async () => {
      const id = await pricedModel();
      await loadCatalogue(ledger.management, [modelOf(id, { input: '99', output: '99' }, 'http://other.test/v1')]);
      const model = (await load(id))!;
      assert.equal(model.upstreams[0]!.base_url, 'http://other.test/v1');
      assert.deepEqual(model.versions[0]!.prices, await findPriceVersion(ledger.worker, id, 1));
      assert.equal(model.versions.length, 1);
    });

    it('loading a file leaves a model without prices unpriced', async () => {
      const id = `demo/${uuidAt(Date.now())}`;
      await loadCatalogue(ledger.management, [modelOf(id, {})]);
      assert.deepEqual((await load(id))!.versions, []);
    });

    it('loading a file stops at an inexact price, and names model and field', async () => {
      const id = `demo/${uuidAt(Date.now())}`;
      const loading = loadCatalogue(ledger.management, [modelOf(id, { input: '0.0000001' })]);
      await assert.rejects(
        loading,
        (error) => error instanceof Error && error.message.startsWith(id) && /input/.test(error.message),
      );
      assert.equal(await load(id), undefined);
    });

    it('loading a file keeps a model retired that an operator has retired', async () => {
      const id = await pricedModel();
      await setModelRetired(ledger.management, id, true);
      await loadCatalogue(ledger.management, [modelOf(id, { input: '1', output: '2' })]);
      assert.equal(await load(id), undefined);
    });
  });

  it('gateways hear of every change', async () => {
    const id = await pricedModel();
    const client = await ledger.admin.connect();
    const heard: (string | undefined)[] = [];
    client.on('notification', ({ payload }) => heard.push(payload));
    try {
      await client.query('listen holdfast_changed');
      await publish(id, '3', null);
      await setModelRetired(ledger.management, id, true);
      await client.query('select 1');
      const topics = heard.map((payload) => payload?.split(':', 1)[0]);
      assert.deepEqual(topics, ['catalogue', 'catalogue']);
    } finally {
      client.release(true);
    }
  });
});
