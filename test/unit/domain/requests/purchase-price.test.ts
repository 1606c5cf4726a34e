/** A client must not see the provider's charge to us in an answer. Token counts and the model's words stay. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { withoutPurchasePrice } from '../../../../domain/requests/purchase-price.ts';

describe('purchase price: usage', () => {
  const rows: readonly [source: string, usage: Record<string, unknown>, shown: Record<string, unknown>][] = [
    [
      'OpenRouter (openrouter.ai/docs/use-cases/usage-accounting)',
      {
        prompt_tokens: 194,
        completion_tokens: 2,
        total_tokens: 196,
        cost: 0.95,
        is_byok: false,
        cost_details: { upstream_inference_cost: 19, upstream_inference_prompt_cost: 1 },
        prompt_tokens_details: { cached_tokens: 0, cache_write_tokens: 100 },
        server_tool_use: { web_search_requests: 1 },
      },
      {
        prompt_tokens: 194,
        completion_tokens: 2,
        total_tokens: 196,
        prompt_tokens_details: { cached_tokens: 0, cache_write_tokens: 100 },
        server_tool_use: { web_search_requests: 1 },
      },
    ],
    [
      'xAI (vercel/ai packages/xai/src/__fixtures__/xai-text.chunks.txt)',
      { prompt_tokens: 12, completion_tokens: 1, num_sources_used: 0, cost_in_usd_ticks: 1466250 },
      { prompt_tokens: 12, completion_tokens: 1, num_sources_used: 0 },
    ],
    [
      'Perplexity (docs.perplexity.ai/api-reference/sonar-post)',
      {
        prompt_tokens: 10,
        completion_tokens: 25,
        cost: { input_tokens_cost: 0.00001, request_cost: 0.005, total_cost: 0.005035 },
        search_context_size: 'low',
      },
      { prompt_tokens: 10, completion_tokens: 25, search_context_size: 'low' },
    ],
    [
      'DeepInfra (deepinfra.com/docs/openai_api)',
      { prompt_tokens: 15, completion_tokens: 16, estimated_cost: 0.0000268 },
      { prompt_tokens: 15, completion_tokens: 16 },
    ],
    [
      'Pydantic’s gateway (pydantic/genai-prices tests/dataset/usages.json)',
      { prompt_tokens: 13, completion_tokens: 11, pydantic_ai_gateway: { cost_estimate: 0.00012625 } },
      { prompt_tokens: 13, completion_tokens: 11 },
    ],
    [
      'a price inside the details, in other styles of names',
      {
        prompt_tokens: 1,
        prompt_tokens_details: { cached_tokens: 1, totalCost: '1', PriceUSD: 2, 'cache-discount': 3, creditsUsed: 4 },
        calls: [{ name: 'search', fee: 0.01, tokens: 7 }],
      },
      { prompt_tokens: 1, prompt_tokens_details: { cached_tokens: 1 }, calls: [{ name: 'search', tokens: 7 }] },
    ],
    [
      'counts whose names only sound like prices (Cohere’s billed units)',
      { billed_units: { input_tokens: 7, output_tokens: 2 }, priced_tokens: 9, costly: true, acceptance: 1 },
      { billed_units: { input_tokens: 7, output_tokens: 2 }, priced_tokens: 9, costly: true, acceptance: 1 },
    ],
  ];
  for (const [source, usage, shown] of rows) {
    it(source, () => {
      const before = structuredClone(usage);
      assert.deepEqual(withoutPurchasePrice(usage), shown);
      assert.deepEqual(usage, before, 'the evidence is left as it was');
    });
  }

  it('whatever JSON it is: never an exception, no field named cost at any depth, however deep', () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.jsonValue(), (value, other) => {
        const shown = JSON.stringify(withoutPurchasePrice({ value, nested: [{ cost: other, value }] }));
        assert.ok(!shown.includes('"cost"'));
      }),
    );
    const deep: unknown = JSON.parse(`${'{"x":'.repeat(50_000)}{"cost":1}${'}'.repeat(50_000)}`);
    assert.ok(!JSON.stringify(withoutPurchasePrice(deep)).includes('cost'));
    for (const value of [null, undefined, 7, 'cost', true, []]) assert.deepEqual(withoutPurchasePrice(value), value);
  });
});
