/**
 * The connection to Temporal: one lazy gRPC connection per process, one client per namespace. Lazy, because a process
 * must start and serve while Temporal is away.
 */
import { Client, Connection, isGrpcServiceError } from '@temporalio/client';

export interface TemporalClients {
  readonly requests: Client;
  readonly processes: Client;
  close(): Promise<void>;
}

/** gRPC's own back-off grows to two minutes, far longer than a restart of the server takes. */
const RECONNECT = { 'grpc.initial_reconnect_backoff_ms': 200, 'grpc.max_reconnect_backoff_ms': 2000 };

export function createTemporalClients(
  address: string,
  namespaces: { requests: string; processes: string },
): TemporalClients {
  const connection = Connection.lazy({ address, channelArgs: RECONNECT });
  return {
    requests: new Client({ connection, namespace: namespaces.requests }),
    processes: new Client({ connection, namespace: namespaces.processes }),
    close: () => connection.close(),
  };
}

/** True when the server could not be reached or did not answer: nothing is known about the call, it may be repeated. */
export function isTemporalUnreachable(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if (isGrpcServiceError(error)) return true;
  return error.cause !== undefined && isTemporalUnreachable(error.cause);
}
