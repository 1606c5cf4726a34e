/** The metrics of a process, in Prometheus' text format. */
import { collectDefaultMetrics, Registry } from 'prom-client';

export function createRegistry(process: string): Registry {
  const registry = new Registry();
  registry.setDefaultLabels({ process });
  collectDefaultMetrics({ register: registry, prefix: 'holdfast_' });
  return registry;
}
