/** The control interface that every twin has beside its provider's own: `/_twin/…`, JSON both ways. */
import assert from 'node:assert/strict';

export class TwinControl {
  readonly #baseUrl: () => string;

  /** `baseUrl` is asked for at every call: a test may restart its twin. */
  constructor(baseUrl: () => string) {
    this.#baseUrl = baseUrl;
  }

  async call<T>(method: string, path: string, body?: unknown): Promise<{ status: number; body: T }> {
    const response = await fetch(`${this.#baseUrl()}/_twin/${path}`, {
      method,
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    return { status: response.status, body: (await response.json()) as T };
  }

  /** A POST that must succeed. */
  async steer<T>(path: string, body: object = {}): Promise<T> {
    return this.#expected('POST', path, body);
  }

  /** A GET that must succeed. */
  async show<T>(path: string): Promise<T> {
    return this.#expected('GET', path);
  }

  async #expected<T>(method: string, path: string, body?: object): Promise<T> {
    const answer = await this.call<T>(method, path, body);
    assert.equal(answer.status, 200, JSON.stringify(answer.body));
    return answer.body;
  }
}
