/** How many requests each key and each account has open in this process; one at its limit gets 429. */
import { Refusal } from '../../../../domain/errors.ts';
import type { AccountUuid, KeyUuid } from '../../../../domain/ids.ts';

/** Whose request it is. */
interface Holder {
  readonly keyId: KeyUuid;
  readonly accountId: AccountUuid;
}

export class ConcurrencyLimit {
  readonly #most: { readonly key: number; readonly account: number };
  readonly #openOfKey = new Map<KeyUuid, number>();
  readonly #openOfAccount = new Map<AccountUuid, number>();

  constructor(most: { key: number; account: number }) {
    this.#most = most;
  }

  /** Counts a request in, or throws the Refusal. Each success must be followed by one `leave`. */
  enter({ keyId, accountId }: Holder): void {
    const ofKey = this.#openOfKey.get(keyId) ?? 0;
    const ofAccount = this.#openOfAccount.get(accountId) ?? 0;
    if (ofKey >= this.#most.key) throw tooMany('API key', ofKey);
    if (ofAccount >= this.#most.account) throw tooMany('account', ofAccount);
    this.#openOfKey.set(keyId, ofKey + 1);
    this.#openOfAccount.set(accountId, ofAccount + 1);
  }

  leave({ keyId, accountId }: Holder): void {
    countDown(this.#openOfKey, keyId);
    countDown(this.#openOfAccount, accountId);
  }
}

function tooMany(whose: string, open: number): Refusal {
  return new Refusal('rate_limit_exceeded', {
    message: `This ${whose} has ${open} requests open, which is its limit.`,
  });
}

function countDown<Id>(counts: Map<Id, number>, id: Id): void {
  const count = counts.get(id) ?? 0;
  if (count <= 1) counts.delete(id);
  else counts.set(id, count - 1);
}
