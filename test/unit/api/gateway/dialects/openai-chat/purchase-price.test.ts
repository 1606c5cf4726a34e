/**
 * What a client must not see of a completion: what its provider charged us. Token counts and the model's words stay.
 */
import assert from 'node:assert/strict';
import { answerWithoutPurchasePrice } from '../../../../../../api/gateway/dialects/openai-chat/purchase-price.ts';

describe('purchase price: answers and chunks', () => {
  it('is taken out of the top level, of every usage and of the metadata of gateways', () => {
    const sent = {
      id: 'gen-1',
      provider: 'OpenAI',
      cost: 0.1,
      total_cost: 0.1,
      response_cost: 0.1,
      price: '0.1',
      billing: { plan: 'pro' },
      _hidden_params: { response_cost: 0.1 },
      provider_metadata: { gateway: { routing: 'a', cost: '0.1', marketCost: '0.2' } },
      x_groq: { id: 'req', usage: { prompt_tokens: 1, cost: 1 } },
      usage: { prompt_tokens: 1, cost: 0.1 },
      choices: [
        {
          index: 0,
          usage: { prompt_tokens: 1, cost: 0.1 },
          delta: { content: 'x', provider_metadata: { gateway: { cost: '0.1', id: 'g' } } },
        },
      ],
    };
    assert.deepEqual(answerWithoutPurchasePrice(sent), {
      id: 'gen-1',
      provider: 'OpenAI',
      provider_metadata: { gateway: { routing: 'a' } },
      x_groq: { id: 'req', usage: { prompt_tokens: 1 } },
      usage: { prompt_tokens: 1 },
      choices: [
        {
          index: 0,
          usage: { prompt_tokens: 1 },
          delta: { content: 'x', provider_metadata: { gateway: { id: 'g' } } },
        },
      ],
    });
  });

  it('leaves what the model wrote and what the client sent alone, whatever it is called', () => {
    const sent = {
      metadata: { cost_center: '42' },
      choices: [
        {
          message: {
            content: '{"cost": 5}',
            tool_calls: [{ function: { name: 'price', arguments: '{"cost":5}', cost: 1 } }],
            annotations: [{ price: 3 }],
          },
        },
      ],
    };
    assert.equal(answerWithoutPurchasePrice(sent), sent);
  });

  it('an ordinary chunk is not even copied', () => {
    const sent = { id: 'c', created: 1, model: 'm', choices: [{ index: 0, delta: { content: 'Hi' } }], usage: null };
    assert.equal(answerWithoutPurchasePrice(sent), sent);
  });
});
