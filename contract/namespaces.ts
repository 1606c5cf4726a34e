/** The two namespaces of Temporal, by the room of what runs there. */
export interface Namespaces {
  /** Requests: settlement, sweep, orphans. Short retention; also the task queue's name. */
  readonly requests: string;
  /** Everything else. Long retention; also the task queue's name. */
  readonly processes: string;
}

export const DEFAULT_NAMESPACES: Namespaces = { requests: 'holdfast-requests', processes: 'holdfast' };

export const RETENTION_DAYS = { requests: 3, processes: 90 } as const;
