/** The page on which a person allows the application what it asks for, as any of the demo users or as a new one. */
import { escape } from '../kit/html.ts';
import { notice, page } from './html.ts';
import type { PageAnswer } from '../kit/http.ts';
import { snowflakeTimeMs } from './ids.ts';
import { allow, type AuthorizeRequest, deny, readAuthorizeRequest, SCOPES } from './oauth.ts';
import type { UserRow } from './store.ts';
import type { DiscordWorld } from './world.ts';

export const AUTHORIZE_PATH = '/oauth2/authorize';

const DAY_MS = 86_400_000;
const NEW_USER = 'new';
const USERNAME = /^[a-z0-9_.]{2,32}$/;

export function showAuthorizePage(world: DiscordWorld, query: URLSearchParams): PageAnswer {
  const request = readAuthorizeRequest(world, query);
  if (typeof request === 'string') return notice(400, 'This link does not work', request);
  return { status: 200, html: authorizeForm(world, request, null) };
}

/** Answers the page's form: 302 back to the application, or the page again. */
export function submitAuthorizePage(world: DiscordWorld, query: URLSearchParams, form: URLSearchParams): PageAnswer {
  const request = readAuthorizeRequest(world, query);
  if (typeof request === 'string') return notice(400, 'This link does not work', request);
  if (form.get('action') === 'deny') return { status: 302, location: deny(request) };

  const chosen = form.get('user') ?? '';
  if (chosen !== NEW_USER) {
    if (world.store.users.get(chosen) === undefined) return refused(world, request, 'Choose who you are.');
    return { status: 302, location: allow(world, request, chosen) };
  }
  const username = form.get('username') ?? '';
  const days = Number(form.get('account_age_days') ?? '');
  if (!USERNAME.test(username)) {
    return refused(world, request, 'A username has 2 to 32 small letters, digits, dots or underscores.');
  }
  if (!Number.isInteger(days) || days < 0 || days > 3_650) {
    return refused(world, request, 'The age must be a whole number of days, 3650 at most.');
  }
  const user = world.addUser(username, { createdMs: world.clock.nowMs() - days * DAY_MS });
  if (form.get('join') !== null) world.join(user.id);
  return { status: 302, location: allow(world, request, user.id) };
}

/** Everybody who can sign in, oldest account first. */
export function people(world: DiscordWorld): UserRow[] {
  return world.store.users
    .oldestFirst()
    .filter(({ is_bot }) => !is_bot)
    .sort((a, b) => snowflakeTimeMs(a.id) - snowflakeTimeMs(b.id));
}

export function ageOf(world: DiscordWorld, { id }: UserRow): string {
  const days = Math.floor((world.clock.nowMs() - snowflakeTimeMs(id)) / DAY_MS);
  return days === 1 ? '1 day' : `${days} days`;
}

function refused(world: DiscordWorld, request: AuthorizeRequest, error: string): PageAnswer {
  return { status: 422, html: authorizeForm(world, request, error) };
}

function authorizeForm(world: DiscordWorld, { scopes, redirectUri }: AuthorizeRequest, error: string | null): string {
  const rows = people(world).map(
    (user) => `<tr>
<td>${escape(user.username)}<br><span class="small">${escape(user.id)}</span></td>
<td class="small">account of ${ageOf(world, user)}, ${world.store.members.get(user.id) === undefined ? 'not in the server' : 'in the server'}</td>
<td><form method="post"><input type="hidden" name="user" value="${escape(user.id)}"><button type="submit">Authorize as ${escape(user.username)}</button></form></td>
</tr>`,
  );
  return page(
    'Authorize',
    `<h1>Holdfast wants to access your Discord account</h1>
${error === null ? '' : `<p class="error" role="alert">${escape(error)}</p>`}
<ul>${scopes.map((scope) => `<li>${escape(SCOPES[scope] ?? scope)}</li>`).join('')}</ul>
<table><tbody>
${rows.join('\n')}
</tbody></table>
<h2>Somebody new</h2>
<form method="post">
<input type="hidden" name="user" value="${NEW_USER}">
<label>Username <input name="username" autocomplete="off" required></label>
<label>Account age in days <input name="account_age_days" type="number" min="0" max="3650" value="365" required></label>
<label><input name="join" type="checkbox" value="yes" checked> in the server</label>
<button type="submit">Authorize as this user</button>
</form>
<form method="post"><button type="submit" name="action" value="deny" class="quiet">Cancel</button></form>
<p class="small">Sandbox: this stands for Discord's page. You will be sent to ${escape(redirectUri)}.</p>`,
  );
}
