/**
 * Linking an account to a Discord user. The beginning leaves a random value in the address (`state`) and another in a
 * cookie; both are stored hashed. The callback takes a state once, within minutes, and only from the browser with that
 * cookie or from the token that began: so nobody can be led to link their Discord user to somebody else's account.
 */
import { createHash, randomBytes } from 'node:crypto';
import type { Express, Request, Response } from 'express';
import { z } from 'zod';
import {
  beginDiscordLink,
  isOpenDiscordState,
  proveDiscordLink,
  unlinkDiscord,
  useDiscordState,
} from '../../../../db/rewards/discord.ts';
import { Refusal } from '../../../../domain/errors.ts';
import type { AccountUuid, Uuid } from '../../../../domain/ids.ts';
import { reasonWords } from '../../../../domain/rewards/reward.ts';
import { isRefusedByDiscord, readAuthorizedUser } from '../../../../providers/discord/settings.ts';
import { authenticate, authorize } from '../../../http/authenticate.ts';
import type { ManagementDeps } from '../../../http/deps.ts';
import { timeText } from '../../../http/fields.ts';
import type { StrangersGate } from '../../../http/strangers.ts';
import { linkDiscordUser } from '../../../processes/rewards.ts';
import { accountRoute, ok, type Route } from '../../../http/route.ts';

const COOKIE = 'holdfast_discord_link';
const CALLBACK_PATH = '/api/discord/callback';
const SECRET_BYTES = 32;
/** The form of our states; a state of another form is not looked up. */
const STATE = /^[\w-]{43}$/;

const sha256 = (text: string): Buffer => createHash('sha256').update(text).digest();
const newSecret = (): string => randomBytes(SECRET_BYTES).toString('base64url');

export function discordRoutes({ management, settings }: ManagementDeps): Route[] {
  const { discord } = settings.rewards;
  const { publicUrl } = settings.payments;

  return [
    accountRoute({
      method: 'get',
      path: '/api/discord/link',
      scope: 'money',
      summary: 'Start to link a Discord user: send the browser to `authorize_url`',
      response: z.object({
        authorize_url: z.string(),
        expires_at: timeText(),
      }),
      async handle({ accountId, tokenId }) {
        if (discord.oauth === null) throw new Refusal('not_found', { message: 'Discord is not configured here.' });
        const state = newSecret();
        const browser = newSecret();
        const at = new Date();
        await beginDiscordLink(management, {
          stateHash: sha256(state),
          browserHash: sha256(browser),
          accountId,
          tokenId,
          ttlSeconds: discord.linkSeconds,
          at,
        });
        const address = new URL(discord.oauth.authorizeUrl);
        address.searchParams.set('response_type', 'code');
        address.searchParams.set('client_id', discord.oauth.clientId);
        address.searchParams.set('scope', 'identify');
        address.searchParams.set('redirect_uri', `${publicUrl}${CALLBACK_PATH}`);
        address.searchParams.set('state', state);
        const cookie = [
          `${COOKIE}=${browser}`,
          `Path=${CALLBACK_PATH}`,
          `Max-Age=${Math.ceil(discord.linkSeconds)}`,
          'HttpOnly',
          // Lax and not Strict: the browser comes back from Discord's page.
          'SameSite=Lax',
          ...(publicUrl.startsWith('https:') ? ['Secure'] : []),
        ].join('; ');
        const expiresAt = new Date(at.getTime() + discord.linkSeconds * 1000).toISOString();
        return { ...ok({ authorize_url: address.href, expires_at: expiresAt }), headers: { 'set-cookie': cookie } };
      },
    }),
    accountRoute({
      method: 'delete',
      path: '/api/discord/link',
      scope: 'money',
      summary: 'Remove the link; rewards stay, and a new link pays none of them again',
      response: z.object({ unlinked: z.literal(true) }),
      async handle(call) {
        const isUnlinked = await unlinkDiscord(management, call.accountId, new Date());
        if (!isUnlinked) throw new Refusal('not_found', { message: 'No Discord user is linked.' });
        call.log.info('discord user unlinked');
        return ok({ unlinked: true as const });
      },
    }),
  ];
}

/** The answer of the callback: a page for a browser, JSON for a token. */
interface Answer {
  readonly status: number;
  readonly outcome: string;
  readonly title: string;
  readonly text: string;
}

const INVALID: Answer = {
  status: 400,
  outcome: 'invalid',
  title: 'This link no longer works',
  text: 'It was used, has expired, or was started by somebody else. Start again from your account.',
};
const DENIED: Answer = {
  status: 200,
  outcome: 'denied',
  title: 'Nothing was linked',
  text: 'You did not allow it at Discord. You can start again from your account at any time.',
};
const OTHER_BROWSER: Answer = {
  status: 403,
  outcome: 'other_browser',
  title: 'One step is missing',
  text:
    'This browser did not start the link. If you started it with a management token, call this same address with the same ' +
    '“Authorization: Bearer …” header to finish it. If somebody else sent you here, close this page.',
};
const REFUSED_CODE: Answer = {
  status: 400,
  outcome: 'refused_by_discord',
  title: 'Discord did not confirm it',
  text: 'Start again from your account.',
};
const DISCORD_AWAY: Answer = {
  status: 502,
  outcome: 'discord_unreachable',
  title: 'Discord does not answer',
  text: 'Nothing was changed. Start again from your account in a minute.',
};

/** `GET /api/discord/callback`: where Discord sends the browser back to. */
export function registerDiscordCallback(app: Express, deps: ManagementDeps, gate: StrangersGate): void {
  app.get(CALLBACK_PATH, async (request, response) => {
    const answer = await finishLink(deps, gate, request);
    const isBrowser = request.headers.authorization === undefined;
    // Only a state that was used up takes its cookie with it: anybody can make a browser come here with another one.
    if (answer !== INVALID && answer !== OTHER_BROWSER) {
      response.setHeader('set-cookie', `${COOKIE}=; Path=${CALLBACK_PATH}; Max-Age=0; HttpOnly; SameSite=Lax`);
    }
    send(response, answer, isBrowser);
  });
}

async function finishLink(deps: ManagementDeps, gate: StrangersGate, request: Request): Promise<Answer> {
  const { settings, logger } = deps;
  const { discord } = settings.rewards;
  const { oauth } = discord;
  if (oauth === null) throw new Refusal('not_found');
  const { code, state, error } = request.query;
  if (typeof state !== 'string' || !STATE.test(state)) return INVALID;
  const accountId = await claimState(deps, gate, request, state);
  if (typeof accountId !== 'string') return accountId;
  if (typeof error === 'string') return DENIED;
  if (typeof code !== 'string' || code.length > 200) return INVALID;
  let user;
  try {
    const redirectUri = `${settings.payments.publicUrl}${CALLBACK_PATH}`;
    user = await readAuthorizedUser({ ...discord, oauth }, { code, redirectUri });
  } catch (failure) {
    logger.warn({ error: String(failure) }, 'discord did not tell who authorized us');
    return isRefusedByDiscord(failure) ? REFUSED_CODE : DISCORD_AWAY;
  }
  const stateHash = sha256(state);
  await proveDiscordLink(deps.strangers, { stateHash, discordUserId: user.id, username: user.username });
  const attemptId = stateHash.toString('hex');
  const { outcome } = await linkDiscordUser(deps, { discordUserId: user.id, attemptId });
  if (outcome === 'linked') {
    const text = `Your account is linked to ${user.username}. Your rewards list shows what it has earned.`;
    return { status: 200, outcome, title: 'Linked', text };
  }
  return { status: 409, outcome: outcome ?? 'unknown', title: 'Not linked', text: reasonWords(outcome ?? 'unknown') };
}

/**
 * Uses the state up for the account that it is for; says why not unless the cookie or the token is that of the
 * beginning.
 */
async function claimState(
  { strangers, tokens }: ManagementDeps,
  gate: StrangersGate,
  request: Request,
  state: string,
): Promise<AccountUuid | Answer> {
  const cookie = cookieOf(request);
  let tokenId: Uuid<'token'> | null = null;
  if (request.headers.authorization !== undefined) {
    const token = await authenticate(tokens, request, gate.addressOf(request));
    authorize(token, { scope: 'money' });
    tokenId = token.id;
  }
  return gate.run(request, async () => {
    const at = new Date();
    const stateHash = sha256(state);
    const browserHash = cookie === null ? null : sha256(cookie);
    const accountId = await useDiscordState(strangers, { stateHash, browserHash, tokenId, at });
    if (accountId !== null) return accountId;
    return (await isOpenDiscordState(strangers, stateHash, at)) ? OTHER_BROWSER : INVALID;
  });
}

function cookieOf(request: Request): string | null {
  for (const part of (request.headers.cookie ?? '').split(';')) {
    const [name, value] = part.trim().split('=');
    if (name === COOKIE && value !== undefined && /^[\w-]{1,200}$/.test(value)) return value;
  }
  return null;
}

function send(response: Response, { status, outcome, title, text }: Answer, isBrowser: boolean): void {
  response.status(status);
  if (!isBrowser) {
    response.json({ outcome, message: text });
    return;
  }
  const escaped = text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
  response
    .type('html')
    .send(
      `<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n` +
        `<title>${title}</title>\n<h1>${title}</h1>\n<p>${escaped}</p>\n</html>\n`,
    );
}
