/**
 * Where the configuration lets prompts and provider keys go: a name in the catalogue must not reach another secret, a
 * key no other host, and neither a machine inside the network, however its address is written.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Agent, request } from 'undici';
import type { UpstreamAddress } from '../../../../domain/requests/upstream-address.ts';
import { ConfigError } from '../../../../runtime/environment.ts';
import { upstreamRules } from '../../../../providers/upstreams/settings.ts';
import { lookUpUsage } from '../../../../providers/upstreams/usage-lookup.ts';

const ENVIRONMENT = {
  CREEM_API_KEY: 'creem-secret',
  DATABASE_URL: 'postgres://secret',
  UPSTREAM_KEY: 'sk-provider',
  UPSTREAM_KEY_HOSTS: 'api.provider.com, *.gateway.provider.com, 10.0.0.5:9000',
  UPSTREAM_LOOSE_KEY: 'sk-loose',
  UPSTREAM_BROKEN_KEY: 'two words',
  UPSTREAM_EMPTY_KEY: '',
  UPSTREAM_PRIVATE_HOSTS: '10.0.0.5:9000,models.internal:*',
};

const upstream = (given: Partial<UpstreamAddress> = {}): UpstreamAddress => ({
  base_url: 'https://api.provider.com/v1',
  api_key_env: 'UPSTREAM_KEY',
  lookup: null,
  ...given,
});

describe('rules of upstreams', () => {
  const rules = upstreamRules(ENVIRONMENT);
  const faultOf = (given: Partial<UpstreamAddress>): string | null => {
    const fault = rules.faultOf(upstream(given));
    return fault === null ? null : `${fault.field} ${fault.message}`;
  };

  it('a key goes to the hosts that the configuration binds it to, and to its look-up there', () => {
    for (const given of [
      {},
      { base_url: 'https://eu.gateway.provider.com/v1' },
      { lookup: 'https://api.provider.com/r/{request_id}' },
      { base_url: 'http://10.0.0.5:9000/v1' },
    ]) {
      assert.equal(faultOf(given), null);
      assert.equal(rules.keyOf(upstream(given)), 'sk-provider');
    }
    assert.equal(rules.keyOf(upstream({ api_key_env: null })), null);
  });

  it("no other variable of the process can be sent: the payment provider's key goes nowhere", () => {
    for (const name of ['CREEM_API_KEY', 'DATABASE_URL', 'UPSTREAM_KEY_HOSTS', 'UPSTREAM_PRIVATE_HOSTS', 'PATH']) {
      assert.match(String(faultOf({ api_key_env: name })), /^api_key_env must be the name of a variable like/, name);
    }
  });

  it('a key that is not bound to the host of the address, or of the look-up, does not leave', () => {
    for (const given of [
      { base_url: 'https://evil.example/v1' },
      { base_url: 'https://api.provider.com.evil.example/v1' },
      { base_url: 'https://api.provider.com:8443/v1' },
      { lookup: 'https://evil.example/r/{request_id}' },
      { api_key_env: 'UPSTREAM_LOOSE_KEY' },
    ]) {
      assert.match(String(faultOf(given)), /^api_key_env may not be sent to .+_HOSTS does not name it$/);
    }
  });

  it('a variable that is unset, empty or no header value is refused by its name, and never by its content', () => {
    for (const name of ['UPSTREAM_UNSET_KEY', 'UPSTREAM_EMPTY_KEY', 'UPSTREAM_BROKEN_KEY']) {
      const fault = faultOf({ api_key_env: name });
      assert.equal(fault, `api_key_env names the variable ${name}, which holds no usable key`);
    }
  });

  it('an address without TLS or inside a network is refused in every way of writing it, with or without a key', () => {
    const privateOnes = [
      'https://127.0.0.1/v1',
      'https://127.1/v1',
      'https://2130706433/v1',
      'https://0x7f000001/v1',
      'https://0x7f.1/v1',
      'https://0177.0.0.1/v1',
      'https://017700000001/v1',
      'https://①②⑦.⓪.⓪.①/v1',
      'https://0/v1',
      'https://0.0.0.0/v1',
      'https://10.1.2.3/v1',
      'https://172.16.0.1/v1',
      'https://192.168.0.1/v1',
      'https://169.254.169.254/v1',
      'https://100.64.0.1/v1',
      'https://168.63.129.16/v1',
      'https://[::ffff:168.63.129.16]/v1',
      'https://192.0.0.1/v1',
      'https://198.18.0.1/v1',
      'https://224.0.0.1/v1',
      'https://255.255.255.255/v1',
      'https://[::1]/v1',
      'https://[::]/v1',
      'https://[::ffff:127.0.0.1]/v1',
      'https://[::ffff:7f00:1]/v1',
      'https://[::ffff:0:127.0.0.1]/v1',
      'https://[::127.0.0.1]/v1',
      'https://[64:ff9b::7f00:1]/v1',
      'https://[2002:7f00:1::]/v1',
      'https://[2001:0:1::1]/v1',
      'https://[fe80::1]/v1',
      'https://[fd00::1]/v1',
      'https://[fec0::1]/v1',
      'https://[ff02::1]/v1',
      'https://localhost/v1',
      'https://LOCALHOST./v1',
      'https://api.localhost/v1',
      'https://metadata.google.internal/v1',
      'https://db.local/v1',
      'https://printer.lan/v1',
      'https://router.home.arpa/v1',
      'https://postgres/v1',
    ];
    for (const base_url of privateOnes) {
      assert.match(String(faultOf({ base_url, api_key_env: null })), /^base_url must be a public address/, base_url);
      const lookup = `${base_url}/{request_id}`;
      assert.match(String(faultOf({ lookup, api_key_env: null })), /^lookup must be a public address/, lookup);
    }
    assert.match(String(faultOf({ base_url: 'http://api.provider.com/v1' })), /^base_url must be https/);
    assert.match(String(faultOf({ lookup: 'http://api.provider.com/{request_id}' })), /^lookup must be https/);
    assert.match(String(faultOf({ base_url: 'http://10.0.0.5:9001/v1' })), /^base_url must be https/);
    for (const base_url of ['https://8.8.8.8/v1', 'https://[2606:4700::1111]/v1', 'http://models.internal:81/v1']) {
      assert.equal(faultOf({ base_url, api_key_env: null }), null, base_url);
    }
  });

  it('settings that name no hosts do not start, and each is named', () => {
    const bad = {
      UPSTREAM_KEY_HOSTS: 'https://a.com',
      UPSTREAM_PRIVATE_HOSTS: '*, 10.0.0.0/8',
      UPSTREAM_A_KEY_HOSTS: 'a.com',
    };
    assert.throws(
      () => upstreamRules(bad),
      (error: Error) => {
        assert.ok(error instanceof ConfigError);
        assert.match(error.message, /UPSTREAM_KEY_HOSTS/);
        assert.match(error.message, /UPSTREAM_PRIVATE_HOSTS/);
        assert.doesNotMatch(error.message, /UPSTREAM_A_KEY_HOSTS/);
        return true;
      },
    );
  });

  describe('names and redirects', () => {
    const requests: { path: string; authorization: string | undefined }[] = [];
    const server = createServer((incoming, response) => {
      requests.push({ path: incoming.url ?? '', authorization: incoming.headers.authorization });
      response.writeHead(302, { location: '/elsewhere' }).end();
    });
    let port = 0;
    before(async () => {
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      ({ port } = server.address() as AddressInfo);
    });
    after(() => {
      server.close();
      server.closeAllConnections();
    });
    beforeEach(() => (requests.length = 0));

    const agentOf = (environment: Record<string, string>): Agent =>
      new Agent({ connect: { lookup: upstreamRules(environment).lookup } });

    it('a name that leads inside the network is not connected to, however public it looks', async () => {
      const agent = agentOf({});
      await assert.rejects(request(`http://localhost:${port}/v1`, { dispatcher: agent }), {
        code: 'ERR_UPSTREAM_NOT_ALLOWED',
      });
      assert.deepEqual(requests, []);
      await agent.close();
    });

    it('a name that the configuration allows is, and its look-up follows no redirect with the key', async () => {
      const agent = agentOf({ UPSTREAM_PRIVATE_HOSTS: 'localhost:*' });
      const evidence = await lookUpUsage(
        { url: `http://localhost:${port}/r/{request_id}`, apiKey: 'sk-provider' },
        'req_1',
        { timeoutMs: 5000, dispatcher: agent },
      );
      assert.equal(evidence.kind, 'pending');
      assert.deepEqual(requests, [{ path: '/r/req_1', authorization: 'Bearer sk-provider' }]);
      await agent.close();
    });
  });
});
