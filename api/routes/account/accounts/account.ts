/** A customer's own account: balance, settings, unread notices. */
import { z } from 'zod';
import {
  findAccount,
  findBalance,
  updateAccount,
  type Account,
  type Balance,
} from '../../../../db/accounts/accounts.ts';
import { listUnreadNotices, markNoticeRead, type Notice } from '../../../../db/accounts/notices.ts';
import { Refusal } from '../../../../domain/errors.ts';
import { formatId, type AccountUuid } from '../../../../domain/ids.ts';
import { formatUsd } from '../../../../domain/money.ts';
import type { ManagementDeps } from '../../../http/deps.ts';
import { amount, id, idText, renderTime, text, timeText, usdText } from '../../../http/fields.ts';
import { accountRoute, ok, type Route } from '../../../http/route.ts';

/** More unread notices than anybody reads; older ones appear as these are marked as read. */
const NOTICES_SHOWN = 50;

const noticeView = z.object({
  id: idText('notice'),
  kind: z.string(),
  details: z.record(z.string(), z.unknown()),
  created_at: timeText(),
  read_at: timeText().nullable(),
});

function renderNotice(notice: Notice): z.output<typeof noticeView> {
  return {
    id: formatId('notice', notice.id),
    kind: notice.kind,
    details: { ...notice.details },
    created_at: notice.createdAt.toISOString(),
    read_at: renderTime(notice.readAt),
  };
}

const accountView = z.object({
  id: idText('account'),
  name: z.string(),
  email: z.string().nullable(),
  created_at: timeText(),
  balance_usd: usdText().meta({ description: 'Exact: finished requests are deducted, settled or not.' }),
  held_usd: usdText().meta({ description: 'Reserved for requests that are still running.' }),
  available_usd: usdText().meta({ description: '`balance_usd` − `held_usd`: available to the next request.' }),
  frozen: z.boolean(),
  low_balance_usd: usdText().meta({ description: 'A notice is written when the balance falls below this.' }),
  notices: z.array(noticeView).meta({ description: 'Unread, newest first.' }),
});

function renderAccount(account: Account, balance: Balance, notices: readonly Notice[]): z.output<typeof accountView> {
  return {
    id: formatId('account', account.id),
    name: account.name,
    email: account.email,
    created_at: account.createdAt.toISOString(),
    balance_usd: formatUsd(balance.balance),
    held_usd: formatUsd(balance.held),
    available_usd: formatUsd(balance.available),
    frozen: account.frozenAt !== null,
    low_balance_usd: formatUsd(account.lowBalance),
    notices: notices.map(renderNotice),
  };
}

export function accountRoutes({ management }: ManagementDeps): Route[] {
  const show = async (accountId: AccountUuid): Promise<z.output<typeof accountView>> => {
    const [account, balance, notices] = await Promise.all([
      findAccount(management, accountId),
      findBalance(management, accountId),
      listUnreadNotices(management, accountId, NOTICES_SHOWN),
    ]);
    if (account === null || balance === null) throw new Refusal('not_found');
    return renderAccount(account, balance, notices);
  };

  return [
    accountRoute({
      method: 'get',
      path: '/api/account',
      scope: 'read',
      summary: 'Get balance, settings and unread notices',
      response: accountView,
      handle: async ({ accountId }) => ok(await show(accountId)),
    }),
    accountRoute({
      method: 'patch',
      path: '/api/account',
      scope: 'money',
      summary: 'Change name or low-balance threshold',
      body: z.strictObject({ name: text(1, 200).optional(), low_balance_usd: amount().optional() }),
      response: accountView,
      async handle({ accountId, body, log }) {
        const change = { name: body.name, lowBalance: body.low_balance_usd };
        if ((await updateAccount(management, accountId, change)) === null) throw new Refusal('not_found');
        log.info({ account_id: formatId('account', accountId), changed: Object.keys(body) }, 'account changed');
        return ok(await show(accountId));
      },
    }),
    accountRoute({
      method: 'post',
      path: '/api/notices/{id}/read',
      scope: 'read',
      summary: 'Mark a notice as read',
      params: z.strictObject({ id: id('notice') }),
      response: noticeView,
      async handle({ accountId, params }) {
        const notice = await markNoticeRead(management, { id: params.id, accountId });
        if (notice === null) throw new Refusal('not_found');
        return ok(renderNotice(notice));
      },
    }),
  ];
}
