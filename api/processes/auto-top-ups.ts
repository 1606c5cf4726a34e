/** What the interface asks of the runs that charge saved cards. */
import type { AccountUuid } from '../../domain/ids.ts';
import { formatId } from '../../domain/ids.ts';
import {
  autoTopUpStart,
  wakeBy,
  WORKFLOW_TYPES,
  type AutoTopUpInput,
  type AutoTopUpStatus,
  type WakeReason,
} from '../../contract/index.ts';
import type { ManagementDeps } from '../http/deps.ts';
import { answeringIn, WAKE_TIMEOUT_MS } from './temporal.ts';

type AutoTopUpWorkflow = (input: AutoTopUpInput) => Promise<AutoTopUpStatus>;

/** Has the account's run decide again; starts it where there is none. */
export async function startAutoTopUp(
  { temporal, settings }: Pick<ManagementDeps, 'temporal' | 'settings'>,
  accountId: AccountUuid,
): Promise<void> {
  const { processes: client, namespaces } = temporal;
  await answeringIn(client, WAKE_TIMEOUT_MS, undefined, () =>
    client.workflow.signalWithStart<AutoTopUpWorkflow, [WakeReason]>(WORKFLOW_TYPES.autoTopUp, {
      ...autoTopUpStart(formatId('account', accountId), namespaces.processes, settings.payments.topUpRun),
      ...wakeBy(null),
    }),
  );
}
