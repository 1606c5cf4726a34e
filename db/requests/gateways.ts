/** Which gateway processes are alive: the owners of holds. */
import type pg from 'pg';
import { query } from '../shared/client.ts';

/** Says that a gateway process is alive; its first call registers it. */
export async function gatewayHeartbeat(pool: pg.Pool, gatewayId: string, description: string): Promise<void> {
  await query(pool, {
    name: 'gateway_heartbeat',
    text: 'select gateway_heartbeat($1, $2)',
    values: [gatewayId, description],
  });
}

/** Says that a gateway process has ended in order: what it still holds is orphaned at once. */
export async function gatewayStopped(pool: pg.Pool, gatewayId: string): Promise<void> {
  await query(pool, { name: 'gateway_stopped', text: 'select gateway_stopped($1)', values: [gatewayId] });
}
