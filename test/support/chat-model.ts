/** A model as the gateway knows it, for tests of what it makes of a request; `more` replaces settings. */
import type { Model, Upstream } from '../../db/requests/catalogue.ts';

export const UPSTREAM: Upstream = {
  base_url: 'http://upstream.test/v1',
  api_key_env: null,
  model: 'upstream/name',
  lookup: null,
};

export function gatewayModel(more: Partial<Model> = {}): Model {
  return {
    id: 'test/model',
    dialect: 'openai',
    contextLength: 100_000,
    defaultOutputTokens: 1000,
    requestTimeoutSeconds: 60,
    upstreams: [UPSTREAM],
    hiddenOutput: false,
    imageTokens: null,
    audioTokensPerSecond: null,
    webSearchInputTokens: null,
    passthroughFields: [],
    createdAt: new Date(0),
    versions: [],
    ...more,
  };
}
