/**
 * Creates an access token for a member of staff and prints it once: the way in when nobody has one yet, and the only
 * way to become a person who may approve requests of others. The name is the person: one name, one person.
 *
 *   DATABASE_URL=… npm run -s create-operator -- <name> [operator|support|finance|auditor]
 */
import { createAccessToken, TOKEN_ROLES, type TokenRole } from './accounts/access-tokens.ts';
import { createPool } from './shared/client.ts';

const [name, role = 'operator'] = process.argv.slice(2);
const url = process.env['DATABASE_URL'];
const isStaffRole = (text: string): text is TokenRole =>
  text !== 'account' && (TOKEN_ROLES as readonly string[]).includes(text);

if (name === undefined || !isStaffRole(role) || url === undefined || url === '') {
  console.error('usage: DATABASE_URL=… npm run -s create-operator -- <name> [operator|support|finance|auditor]');
  process.exit(1);
}
const pool = createPool({ url, role: 'management', max: 1 });
const { secret } = await createAccessToken(pool, { role, accountId: null, name });
await pool.end();
console.log(secret);
