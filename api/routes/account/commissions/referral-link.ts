/**
 * An affiliate's link, `GET /r/{code}`: remembers the click in a signed cookie of our own for 30 days, the last click
 * counting, and sends the visitor to the address that is configured, else to the page at our own, nowhere else. What
 * the cookie says is believed only by its signature.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';
import type { Express } from 'express';
import { findAffiliateByCode, type Referral } from '../../../../db/commissions/affiliates.ts';
import type { ManagementDeps } from '../../../http/deps.ts';
import type { StrangersGate } from '../../../http/strangers.ts';

const COOKIE = 'holdfast_referral';
const COOKIE_DAYS = 30;
const SECONDS_PER_DAY = 86_400;
/** A clock of ours may be a little behind the one that signed. */
const AHEAD_SECONDS = 60;
const CODE = /^[0-9a-z]{6,32}$/;
const VALUE = /^([0-9a-z]{6,32})\.(\d{1,12})\.([\w-]{43})$/;

/** The cookie's value for a click. */
export function signReferral(key: string, code: string, clickedAt: Date): string {
  const signed = `${code}.${Math.floor(clickedAt.getTime() / 1000)}`;
  return `${signed}.${signatureOf(key, signed)}`;
}

function signatureOf(key: string, signed: string): string {
  // The version keeps this signature from ever being taken for another one by the same key.
  return createHmac('sha256', key).update(`referral/1/${signed}`).digest('base64url');
}

/**
 * The referrer of a visitor, by the `Cookie` header of the sign-up: null where there is no cookie, or a foreign one, or
 * its 30 days are over. Its result goes to `createAccount`, which writes it down with the account.
 */
export function referralOfVisitor(key: string | null, cookies: string | undefined, at: Date): Referral | null {
  if (key === null || cookies === undefined) return null;
  for (const pair of cookies.split(';')) {
    const [name, value = ''] = pair.trim().split('=', 2);
    const [, code, seconds, signature] = (name === COOKIE && VALUE.exec(value)) || [];
    if (code === undefined || seconds === undefined || signature === undefined) continue;
    const expected = signatureOf(key, `${code}.${seconds}`);
    if (!timingSafeEqual(Buffer.from(expected), Buffer.from(signature))) continue;
    const age = at.getTime() / 1000 - Number(seconds);
    if (age > COOKIE_DAYS * SECONDS_PER_DAY || age < -AHEAD_SECONDS) continue;
    return { code, clickedAt: new Date(Number(seconds) * 1000) };
  }
  return null;
}

/** The path of affiliates' links. */
export function referralLink(publicUrl: string, code: string): string {
  return `${publicUrl}/r/${code}`;
}

export function registerReferralLink(app: Express, { strangers, settings }: ManagementDeps, gate: StrangersGate): void {
  const { referralKey, referralLandingUrl } = settings;
  const { publicUrl } = settings.payments;
  app.get('/r/:code', async (request, response) => {
    const { code } = request.params;
    // An unknown code sets nothing: it must not take the place of a click that counts.
    const affiliate =
      referralKey !== null && CODE.test(code)
        ? await gate.run(request, () => findAffiliateByCode(strangers, code))
        : null;
    if (referralKey !== null && affiliate !== null && affiliate.blockedAt === null) {
      response.cookie(COOKIE, signReferral(referralKey, affiliate.code, new Date()), {
        maxAge: COOKIE_DAYS * SECONDS_PER_DAY * 1000,
        httpOnly: true,
        sameSite: 'lax',
        secure: publicUrl.startsWith('https:'),
        path: '/',
      });
    }
    response.redirect(302, referralLandingUrl ?? `${publicUrl}/`);
  });
}
