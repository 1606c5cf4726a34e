/**
 * The directories' page: a newcomer votes as one of the people of the Discord twin and sees what became of the webhook.
 */
import type { Directories } from './twin.ts';
import type { Site } from './sites.ts';
import { SITE_NAMES } from './vote.ts';
import { escape } from '../../kit/html.ts';
import { page } from '../html.ts';
import type { PageAnswer } from '../../kit/http.ts';
import { people } from '../oauth-page.ts';
import { Impossible, type DiscordWorld } from '../world.ts';

export const DIRECTORIES_PATH = '/directories';

export function showDirectories(world: DiscordWorld, directories: Directories, error: string | null = null): string {
  const voters = people(world)
    .map(({ id, username }) => `<option value="${escape(id)}">${escape(username)}</option>`)
    .join('');
  const rows = directories.sites.map((site) => siteRow(site, voters));
  return page(
    'Vote',
    `<h1>Vote for the server</h1>
${error === null ? '' : `<p class="error" role="alert">${escape(error)}</p>`}
<table><tbody>
${rows.join('\n')}
</tbody></table>
<h2>Latest votes</h2>
<table><tbody>
${latestVotes(world, directories)}
</tbody></table>
<p class="small">Sandbox: this stands for the vote directories. <a href="/_twin">People, boosts and roles</a></p>`,
  );
}

export function submitVote(world: DiscordWorld, directories: Directories, form: URLSearchParams): PageAnswer {
  const name = SITE_NAMES.find((site) => site === form.get('site'));
  if (name === undefined) return { status: 422, html: showDirectories(world, directories, 'Choose a site.') };
  try {
    directories.voteAsPerson(directories.site(name), form.get('user') ?? '');
    return { status: 303, location: DIRECTORIES_PATH };
  } catch (error) {
    if (!(error instanceof Impossible)) throw error;
    return { status: error.status, html: showDirectories(world, directories, error.message) };
  }
}

function siteRow({ name, title, cooldownHours }: Site, voters: string): string {
  return `<tr>
<th scope="row">${escape(title)}<br><span class="small">one vote every ${cooldownHours} hours</span></th>
<td><form method="post">
<input type="hidden" name="site" value="${name}">
<label>as <select name="user">${voters}</select></label>
<button type="submit">Vote</button>
</form></td>
</tr>`;
}

function latestVotes({ store }: DiscordWorld, directories: Directories): string {
  const rows = store.votes.newestFirst().slice(0, 20);
  if (rows.length === 0) return '<tr><td>None yet.</td></tr>';
  return rows
    .map((vote) => {
      const delivery = store.deliveries.get(vote.id);
      const answers = delivery?.attempts.flatMap(({ answers }) => answers).join(', ') ?? '';
      const voter = store.users.get(vote.discord_user_id)?.username ?? vote.discord_user_id;
      return `<tr>
<td>${escape(voter)} on ${escape(directories.site(vote.site).title)}<br><span class="small">${escape(vote.at)}</span></td>
<td class="small">webhook ${escape(delivery?.state ?? 'unknown')}${answers === '' ? '' : `: ${escape(answers)}`}</td>
</tr>`;
    })
    .join('\n');
}
