/** The form of an upstream's address, of a key's variable and of the hosts that a key is bound to. */
import assert from 'node:assert/strict';
import {
  faultOfAddress,
  isKeyVariable,
  matchesHost,
  parseHostPattern,
} from '../../../../domain/requests/upstream-address.ts';

describe('upstream addresses', () => {
  it("only variables made for upstreams' keys may be named", () => {
    for (const name of [
      'UPSTREAM_KEY',
      'UPSTREAM_API_KEY',
      'UPSTREAM_OPENAI_KEY',
      'UPSTREAM_KEY_2',
      'UPSTREAM_A_KEY_B',
    ]) {
      assert.ok(isKeyVariable(name), name);
    }
    for (const name of [
      'CREEM_API_KEY',
      'STRIPE_SECRET_KEY',
      'CRYPTO_XPUB_KEY',
      'REFERRAL_KEY',
      'DATABASE_URL',
      'UPSTREAM_API_KEY_HOSTS',
      'UPSTREAM_PRIVATE_HOSTS',
      'UPSTREAM_MONKEY',
      'UPSTREAM_KEYS',
      'UPSTREAM__KEY',
      'upstream_key',
      'XUPSTREAM_KEY',
      'UPSTREAM_KEY\n',
      'UPSTREAM_KEY ',
      'sk-secret',
      '',
      `UPSTREAM_${'A'.repeat(100)}_KEY`,
    ]) {
      assert.equal(isKeyVariable(name), false, JSON.stringify(name));
    }
  });

  it('an address that could carry a secret, or let a request choose the host, is refused', () => {
    const cases: [field: 'base_url' | 'lookup', text: string, fault: RegExp][] = [
      ['base_url', 'nowhere', /http or https URL/],
      ['base_url', 'ftp://api.provider.com/v1', /http or https URL/],
      ['base_url', 'file:///etc/passwd', /http or https URL/],
      ['base_url', 'javascript:alert(1)', /http or https URL/],
      ['base_url', 'https://user@api.provider.com/v1', /user or password/],
      ['base_url', 'https://user:word@api.provider.com/v1', /user or password/],
      ['base_url', 'https://:word@api.provider.com/v1', /user or password/],
      ['base_url', 'https://api.provider.com@evil.example/v1', /user or password/],
      ['base_url', 'https://api.provider.com/v1?api-key=1', /query/],
      ['base_url', 'https://api.provider.com/v1?', /query/],
      ['base_url', 'https://evil.example/#', /fragment/],
      ['lookup', 'https://api.provider.com/r', /\{request_id\}/],
      ['lookup', 'https://{request_id}.evil.example/r', /http or https URL|path or query/],
      ['lookup', 'https://api.provider.com/r/{request_id}#x', /fragment/],
      ['lookup', 'https://api.provider.com/r?id={request_id}&api_key=1', /secret/],
      ['lookup', 'https://api.provider.com/r?id={request_id}&Access-Token=1', /secret/],
      ['lookup', 'https://u:p@api.provider.com/r/{request_id}', /user or password/],
    ];
    for (const [field, text, fault] of cases) assert.match(String(faultOfAddress(text, field)), fault, text);
    for (const [field, text] of [
      ['base_url', 'https://api.provider.com/v1'],
      ['base_url', 'http://127.0.0.1:8000/v1'],
      ['lookup', 'https://api.provider.com/r/{request_id}'],
      ['lookup', 'https://api.provider.com/r?id={request_id}'],
    ] as const) {
      assert.equal(faultOfAddress(text, field), null, text);
    }
  });

  it('a pattern names one host at one port, or all below a name, and nothing that only looks like it', () => {
    const matches = (pattern: string, url: string): boolean => {
      const parsed = parseHostPattern(pattern);
      assert.notEqual(parsed, null, pattern);
      return matchesHost(parsed!, new URL(url));
    };
    assert.ok(matches('api.provider.com', 'https://api.provider.com/v1'));
    assert.ok(matches('API.Provider.com', 'https://api.provider.com/v1'));
    assert.ok(matches('*.provider.com', 'https://eu.api.provider.com/v1'));
    assert.ok(matches('provider.com:8443', 'https://provider.com:8443/v1'));
    assert.ok(matches('10.0.0.5:*', 'http://10.0.0.5:9000/v1'));
    assert.ok(matches('[fd00::1]:8000', 'http://[fd00:0::1]:8000/v1'));
    assert.equal(matches('api.provider.com', 'https://api.provider.com:8443/v1'), false);
    assert.equal(matches('api.provider.com', 'https://api.provider.com.evil.example/v1'), false);
    assert.equal(matches('api.provider.com', 'https://xapi.provider.com/v1'), false);
    assert.equal(matches('*.provider.com', 'https://provider.com/v1'), false);
    assert.equal(matches('*.provider.com', 'https://evilprovider.com/v1'), false);
    for (const text of [
      '*',
      '*.com',
      '*.*.com',
      'a.com/path',
      'user@a.com',
      'https://a.com',
      'a.com?x',
      'a b',
      'a.com:x',
      '*a.com',
    ]) {
      assert.equal(parseHostPattern(text), null, text);
    }
  });
});
