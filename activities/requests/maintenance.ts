/** Upkeep of the database that must not be forgotten. */
import type pg from 'pg';
import { ensurePartitions } from '../../db/requests/partitions.ts';

export interface MaintenanceActivities {
  /** Makes the monthly partitions ahead; returns how many were missing. */
  ensurePartitions(): Promise<number>;
}

/** Three months, so that two months of failed upkeep are still harmless. */
const MONTHS_AHEAD = 3;

export function createMaintenanceActivities({ pool }: { pool: pg.Pool }): MaintenanceActivities {
  return {
    ensurePartitions: () => ensurePartitions(pool, MONTHS_AHEAD),
  };
}
