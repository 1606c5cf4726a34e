/**
 * How activities that ask a payment provider are retried: for so long before the run is shown as stuck. The check after
 * that asks again, so an outage ends no run.
 */
export const PROVIDER_CALL = {
  startToCloseTimeout: '30s',
  heartbeatTimeout: '6s',
  scheduleToCloseTimeout: '90s',
  retry: { initialInterval: '500ms', maximumInterval: '15s' },
} as const;
