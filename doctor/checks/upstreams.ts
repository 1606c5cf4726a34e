/** The upstreams of the catalogue: whether each may be called, is there, and takes its key. */
import { Agent, request } from 'undici';
import type { Model, Upstream } from '../../db/requests/catalogue.ts';
import { HOSTS_SUFFIX } from '../../domain/requests/upstream-address.ts';
import type { UpstreamRules } from '../../providers/upstreams/settings.ts';
import { fault, listed, ok, warning, wordsOf, type Check, type Finding } from '../check.ts';

const CALL_TIMEOUT_MS = 5000;

/** `loadModels` throws while the database does not answer. */
export function upstreamCheck(rules: UpstreamRules, loadModels: () => Promise<readonly Model[]>): Check {
  return {
    name: 'upstreams',
    run: async (signal) => {
      let models: readonly Model[];
      try {
        models = await loadModels();
      } catch {
        return [warning('cannot be told while the database cannot be asked', 'see the line of postgresql')];
      }
      const places = placesOf(models);
      if (places.length === 0) return [warning('the catalogue is empty', 'add models: POST /admin/models')];
      const agent = new Agent({ connect: { lookup: rules.lookup } });
      try {
        const found = (await Promise.all(places.map((place) => checkPlace(place, rules, agent, signal)))).flat();
        const hosts = [...new Set(places.map(({ upstream }) => new URL(upstream.base_url).host))];
        return found.length > 0 ? found : [ok(`${models.length} models at ${listed(hosts)}`)];
      } finally {
        await agent.destroy();
      }
    },
    silentCure: 'see whether the providers can be reached from here',
  };
}

interface Place {
  readonly upstream: Upstream;
  readonly models: readonly string[];
}

/** Each address and key once. */
function placesOf(models: readonly Model[]): Place[] {
  const places = new Map<string, { upstream: Upstream; models: string[] }>();
  for (const { id, upstreams } of models) {
    for (const upstream of upstreams) {
      const key = `${upstream.base_url} ${upstream.api_key_env ?? ''}`;
      const place = places.get(key) ?? { upstream, models: [] };
      place.models.push(id);
      places.set(key, place);
    }
  }
  return [...places.values()];
}

async function checkPlace(
  { upstream, models }: Place,
  rules: UpstreamRules,
  agent: Agent,
  signal: AbortSignal,
): Promise<Finding[]> {
  const { base_url: baseUrl, api_key_env: variable } = upstream;
  const of = models.length === 1 ? models[0]! : `${models[0]!} and ${models.length - 1} more`;
  const refused = rules.faultOf(upstream);
  if (refused !== null) {
    const cure =
      refused.field === 'api_key_env'
        ? `set ${variable ?? 'the key'} and ${variable ?? 'its name'}${HOSTS_SUFFIX} for api and worker`
        : 'correct the upstream (PATCH /admin/models/{id}), or name its host in UPSTREAM_PRIVATE_HOSTS';
    return [fault(`${of} cannot be served: ${refused.field} ${refused.message}`, cure)];
  }
  const { host } = new URL(baseUrl);
  const key = rules.keyOf(upstream);
  try {
    const { statusCode, body } = await request(`${baseUrl.replace(/\/+$/, '')}/models`, {
      dispatcher: agent,
      headers: key === null ? {} : { authorization: `Bearer ${key}`, 'x-api-key': key },
      signal: AbortSignal.any([signal, AbortSignal.timeout(CALL_TIMEOUT_MS)]),
    });
    await body.dump();
    if (statusCode === 401 || statusCode === 403) {
      const words = `${host} refuses ${variable === null ? 'a call without a key' : `the key of ${variable}`} (${statusCode}); ${of} cannot be served`;
      return [fault(words, variable === null ? 'give the upstream an api_key_env' : `set a valid key in ${variable}`)];
    }
    if (statusCode >= 500 || statusCode === 429) {
      return [warning(`${host} answers with ${statusCode} for now (${of})`, "see the provider's status page")];
    }
    return [];
  } catch (error) {
    return [
      fault(
        `${host} does not answer (${wordsOf(error)}); ${of} cannot be served`,
        'see whether it can be reached from here',
      ),
    ];
  }
}
