/** Discord's error answers, with the codes that its clients know. */
import { RESTJSONErrorCodes } from 'discord-api-types/v10';

export class DiscordFailure extends Error {
  readonly status: number;
  readonly body: unknown;

  constructor(status: number, message: string, body: unknown) {
    super(message);
    this.status = status;
    this.body = body;
  }
}

export function apiFailure(status: number, message: string, code: RESTJSONErrorCodes | 0 = 0): DiscordFailure {
  return new DiscordFailure(status, message, { message, code });
}

export const UNAUTHORIZED = (): DiscordFailure => apiFailure(401, '401: Unauthorized');
export const NOT_FOUND = (): DiscordFailure => apiFailure(404, '404: Not Found');
export const MISSING_ACCESS = (): DiscordFailure => apiFailure(403, 'Missing Access', RESTJSONErrorCodes.MissingAccess);

/** One field of a query or body that is wrong. */
export function invalidField(field: string, message: string): DiscordFailure {
  return new DiscordFailure(400, message, {
    message: 'Invalid Form Body',
    code: RESTJSONErrorCodes.InvalidFormBodyOrContentType,
    errors: { [field]: { _errors: [{ code: 'NUMBER_TYPE_COERCE', message }] } },
  });
}

/** The error of the token endpoints, in OAuth's own shape. */
export function oauthFailure(status: number, error: string, description?: string): DiscordFailure {
  const body = { error, ...(description !== undefined && { error_description: description }) };
  return new DiscordFailure(status, description ?? error, body);
}
