/** Settings for the doctor: those of api and worker that lead outside. */
import type { DatabaseRole } from '../db/shared/client.ts';
import type { Environment } from '../runtime/environment.ts';
import type { PaymentSettings } from '../providers/payment-settings.ts';
import type { RewardSettings } from '../providers/reward-settings.ts';
import type { UpstreamRules } from '../providers/upstreams/settings.ts';
import type { Namespaces } from '../contract/index.ts';

export interface DatabaseAddress {
  readonly role: DatabaseRole;
  readonly url: string;
  /** The variable that has the address. */
  readonly variable: string;
}

export interface DoctorSettings {
  readonly databases: readonly DatabaseAddress[];
  readonly temporalAddress: string;
  readonly namespaces: Namespaces;
  readonly payments: PaymentSettings;
  readonly rewards: RewardSettings;
  readonly upstreams: UpstreamRules;
}

/** The addresses of the roles, by the rule of api and worker: a variable of the role's own, else `DATABASE_URL`. */
export function databaseAddresses(environment: Environment, roles: readonly DatabaseRole[]): DatabaseAddress[] {
  return roles.flatMap((role) => {
    const variable = [`DATABASE_URL_${role.toUpperCase()}`, 'DATABASE_URL'].find(
      (name) => (environment[name] ?? '') !== '',
    );
    const url = variable === undefined ? undefined : environment[variable];
    return variable === undefined || url === undefined || !URL.canParse(url) ? [] : [{ role, url, variable }];
  });
}

/** Variables whose values, or parts of them, are secret. */
const SECRET_NAME = /KEY|SECRET|TOKEN|PASSWORD|PASSWD/;

/**
 * Text that must not be printed: whole values of secret variables and their parts between commas, passwords and paths
 * of addresses (RPC vendors have their keys there).
 */
export function secretsOf(environment: Environment): string[] {
  return Object.entries(environment).flatMap(([name, value = '']) => {
    if (value === '') return [];
    const parts = value.split(',').map((part) => part.trim());
    if (SECRET_NAME.test(name) && !name.endsWith('_HOSTS')) return [value, ...parts];
    return parts.filter((part) => URL.canParse(part)).flatMap(secretsOfAddress);
  });
}

function secretsOfAddress(address: string): string[] {
  const { protocol, password, pathname, search } = new URL(address);
  const passwords = password === '' ? [] : [password, decodeURIComponent(password)];
  const isDatabase = protocol.startsWith('postgres');
  // A short path (`/v1`) is no secret, and hiding it would make the lines unreadable.
  const places = isDatabase ? [] : [...pathname.split('/'), search.slice(1)].filter((part) => part.length >= 16);
  return [...passwords, ...places];
}
