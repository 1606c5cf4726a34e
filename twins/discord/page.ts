/**
 * The page of the guild: a person sees who is there and lets them join, boost, get a vote role, or take back what they
 * allowed.
 */
import { DIRECTORIES_PATH } from './directories/page.ts';
import { type GuildRole, rolesOf } from './application.ts';
import type { ControlContext } from './control.ts';
import { deauthorize } from './events.ts';
import { escape } from '../kit/html.ts';
import { page } from './html.ts';
import type { PageAnswer } from '../kit/http.ts';
import { ageOf, people } from './oauth-page.ts';
import type { UserRow } from './store.ts';
import { type Announcements, type DiscordWorld, Impossible } from './world.ts';

export const GUILD_PATH = '/_twin';

const TOLD: Announcements = { message: true, memberUpdate: true, split: false };
const BOOSTS_MAX = 14;

export function showGuild(world: DiscordWorld, error: string | null = null): string {
  const { premium_subscription_count: boosts = 0, premium_tier: tier, name } = world.guild();
  return page(
    'The server',
    `<h1>${escape(name)}</h1>
<p>${boosts === 1 ? '1 boost' : `${boosts} boosts`}, level ${tier}. <a href="${DIRECTORIES_PATH}">Vote for the server</a></p>
${error === null ? '' : `<p class="error" role="alert">${escape(error)}</p>`}
<table><tbody>
${people(world)
  .map((user) => personRow(world, user))
  .join('\n')}
</tbody></table>
<p class="small">Sandbox: this stands for Discord. What a button does is told to the bot as Discord tells it; the routes under /_twin can do it in the ways in which it goes wrong.</p>`,
  );
}

/** Answers the page's forms: 303 to the page, or the page with what was wrong. */
export function submitGuild(context: ControlContext, form: URLSearchParams): PageAnswer {
  try {
    act(context, form);
    return { status: 303, location: GUILD_PATH };
  } catch (error) {
    if (!(error instanceof Impossible)) throw error;
    return { status: error.status, html: showGuild(context.world, error.message) };
  }
}

function act({ world, deliveries }: ControlContext, form: URLSearchParams): void {
  const userId = form.get('user') ?? '';
  const action = form.get('action');
  const count = Number(form.get('count') ?? '1');
  const [verb, roleId = ''] = (action ?? '').split(' ');
  if (verb === 'join') world.join(userId);
  else if (verb === 'leave') world.leave(userId);
  else if (verb === 'end-boosts') world.endBoosts(userId, null, TOLD);
  else if (verb === 'deauthorize') deauthorize(world, deliveries, userId);
  else if (verb === 'give' || verb === 'take') world.setRole(userId, roleId, verb === 'give', TOLD);
  else if (verb === 'boost') {
    if (!Number.isInteger(count) || count < 1 || count > BOOSTS_MAX) {
      throw new Impossible(409, `A person boosts 1 to ${BOOSTS_MAX} times at once.`);
    }
    world.boost(userId, count, TOLD);
  } else throw new Impossible(404, 'Choose what the person does.');
}

function personRow(world: DiscordWorld, user: UserRow): string {
  const member = world.store.members.get(user.id);
  const boosts = member?.boosts ?? 0;
  const facts = [
    `account of ${ageOf(world, user)}`,
    ...(boosts > 0 ? [`${boosts} of the boosts, since ${member?.premium_since ?? ''}`] : []),
  ];
  const allowed = world.store.tokens.find(({ user_id }) => user_id === user.id) !== undefined;
  const buttons =
    member === undefined
      ? '<button name="action" value="join">Join</button>'
      : `<label>times <input name="count" type="number" min="1" max="${BOOSTS_MAX}" value="1"></label>
<button name="action" value="boost">Boost</button>
${boosts > 0 ? '<button name="action" value="end-boosts" class="quiet">End boosts</button>' : ''}
${rolesOf(world.application.guildId)
  .filter(({ kind }) => kind === 'vote')
  .map((role) => roleButton(role, member.roles.includes(role.id)))
  .join('\n')}
<button name="action" value="leave" class="quiet">Leave</button>`;
  return `<tr>
<th scope="row">${escape(user.username)}<br><span class="small">${escape(user.id)}</span><br><span class="small">${escape(facts.join(', '))}</span></th>
<td><form method="post">
<input type="hidden" name="user" value="${escape(user.id)}">
${buttons}
${allowed ? '<button name="action" value="deauthorize" class="quiet">Remove Holdfast’s access</button>' : ''}
</form></td>
</tr>`;
}

function roleButton({ id, name }: GuildRole, isHeld: boolean): string {
  const [verb, text] = isHeld ? ['take', 'Loses'] : ['give', 'Gets'];
  return `<button name="action" value="${verb} ${escape(id)}" class="quiet">${text}: ${escape(name)}</button>`;
}
