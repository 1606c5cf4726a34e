/** What the interface asks of the runs that charge kept cards. */
import type { AccountUuid } from '../../domain/ids.ts';
import { formatId } from '../../domain/ids.ts';
import {
  autoTopUpStart,
  pokeSignal,
  WORKFLOW_TYPES,
  type AutoTopUpInput,
  type AutoTopUpStatus,
} from '../../contract/index.ts';
import type { ManagementDeps } from '../http/deps.ts';
import { answeringIn } from './temporal.ts';

const START_TIMEOUT_MS = 3000;

type AutoTopUpWorkflow = (input: AutoTopUpInput) => Promise<AutoTopUpStatus>;

/** Sees to it that the account's run decides anew. */
export async function startAutoTopUp(
  { temporal, settings }: Pick<ManagementDeps, 'temporal' | 'settings'>,
  accountId: AccountUuid,
): Promise<void> {
  const client = temporal.processes;
  await answeringIn(client, START_TIMEOUT_MS, undefined, () =>
    client.workflow.signalWithStart<AutoTopUpWorkflow, [{ readonly eventId: string | null }]>(
      WORKFLOW_TYPES.autoTopUp,
      {
        ...autoTopUpStart(formatId('account', accountId), temporal.namespaces.processes, settings.payments.topUpRun),
        signal: pokeSignal,
        signalArgs: [{ eventId: null }],
      },
    ),
  );
}
