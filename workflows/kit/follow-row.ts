/**
 * A process that decides nothing: it tells how a row stands until the row is decided. The interface writes the row
 * for a person who is authenticated, and wakes the run; a run that could not be woken finds the decision by polling.
 */
import type { QueryDefinition, UpdateDefinition } from '@temporalio/common';
import { setHandler } from '@temporalio/workflow';
import { assert } from '../../domain/assert.ts';
import { wakeSignal } from '../../contract/wake.ts';
import { CheckLoop, type CheckTiming } from './check-loop.ts';

export interface FollowedRow<Row> {
  readonly statusQuery: QueryDefinition<Row | null>;
  readonly checkUpdate: UpdateDefinition<Row | null, []>;
  /** What it throws ends the run. */
  readonly read: () => Promise<Row>;
  readonly show: (row: Row) => void;
  readonly isOpen: (row: Row) => boolean;
  readonly continueAsNew: () => Promise<never>;
}

/** Handles wake-ups, queries and updates of a row's run; returns the row once it is decided. */
export async function followRow<Row>(
  timing: CheckTiming,
  { statusQuery, checkUpdate, read, show, isOpen, continueAsNew }: FollowedRow<Row>,
): Promise<Row> {
  const loop = new CheckLoop(timing);
  let row: Row | null = null;

  setHandler<Row | null, [], QueryDefinition<Row | null>>(statusQuery, () => row);
  setHandler(wakeSignal, () => loop.wake());
  setHandler<Row | null, [], UpdateDefinition<Row | null, []>>(checkUpdate, async () => {
    await loop.checkNow();
    return row;
  });

  await loop.run({
    async check() {
      row = await read();
      show(row);
      return isOpen(row) ? 'poll' : 'done';
    },
    failed(error) {
      throw error;
    },
    continueAsNew,
  });
  assert(row !== null, 'a run ends with a check');
  return row;
}
