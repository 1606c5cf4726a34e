/** What the gateway counts. Alarms are the counters an operator must be woken by: each is money lost or at risk. */
import { Counter, Gauge, Histogram, type Registry } from 'prom-client';

export interface GatewayMetrics {
  readonly outcomes: Counter<'outcome' | 'stream'>;
  readonly refusals: Counter<'code'>;
  readonly refusalsNotLogged: Counter;
  readonly upstreamCalls: Counter<'model' | 'upstream' | 'result'>;
  readonly modelsWithoutKey: Gauge;
  readonly answers: Counter<'model' | 'usage'>;
  readonly findings: Counter<'model' | 'finding'>;
  readonly bodiesRefused: Counter<'code'>;
  readonly alarms: Counter<'alarm'>;
  readonly freeNotPriced: Counter<'model'>;
  readonly settleDropped: Counter;
  readonly holdSeconds: Histogram;
}

/** What the intake of bodies is busy with. */
export interface BodyState {
  readonly heldBytes: { readonly small: number; readonly large: number };
  readonly slow: number;
  readonly waiting: number;
}

export function createGatewayMetrics(
  registry: Registry,
  read: { openRequests: () => number; settleQueue: () => number; bodies: () => BodyState },
): GatewayMetrics {
  const registers = [registry];
  new Gauge({
    name: 'holdfast_gateway_open_requests',
    help: 'Requests between arrival and recorded end',
    registers,
    collect() {
      this.set(read.openRequests());
    },
  });
  new Gauge({
    name: 'holdfast_gateway_settle_queue',
    help: 'Finished requests waiting for a settlement workflow',
    registers,
    collect() {
      this.set(read.settleQueue());
    },
  });
  new Gauge({
    name: 'holdfast_gateway_body_bytes',
    help: 'Bytes of request bodies in memory, by pool',
    labelNames: ['pool'],
    registers,
    collect() {
      const { small, large } = read.bodies().heldBytes;
      this.set({ pool: 'small' }, small);
      this.set({ pool: 'large' }, large);
    },
  });
  new Gauge({
    name: 'holdfast_gateway_slow_bodies',
    help: 'Request bodies that have been read for longer than a second',
    registers,
    collect() {
      this.set(read.bodies().slow);
    },
  });
  new Gauge({
    name: 'holdfast_gateway_bodies_waiting',
    help: 'Request bodies waiting for a thread that parses them',
    registers,
    collect() {
      this.set(read.bodies().waiting);
    },
  });
  return {
    outcomes: new Counter({
      name: 'holdfast_gateway_requests_total',
      help: 'Held requests by outcome',
      labelNames: ['outcome', 'stream'],
      registers,
    }),
    refusals: new Counter({
      name: 'holdfast_gateway_refusals_total',
      help: 'Refused requests by error code',
      labelNames: ['code'],
      registers,
    }),
    refusalsNotLogged: new Counter({
      name: 'holdfast_gateway_refusals_not_logged_total',
      help: 'Refusals beyond what is logged of a key, an account and in all a second',
      registers,
    }),
    upstreamCalls: new Counter({
      name: 'holdfast_gateway_upstream_calls_total',
      help: 'Upstream calls by model, upstream and result: ok, or the kind of problem',
      labelNames: ['model', 'upstream', 'result'],
      registers,
    }),
    modelsWithoutKey: new Gauge({
      name: 'holdfast_gateway_models_without_key',
      help: 'Models that cannot be served because no upstream of theirs is configured',
      registers,
    }),
    answers: new Counter({
      name: 'holdfast_gateway_answers_total',
      help: 'Billed answers by model, and whether their usage was reported by the provider or estimated here',
      labelNames: ['model', 'usage'],
      registers,
    }),
    findings: new Counter({
      name: 'holdfast_gateway_findings_total',
      help: 'Billed answers whose usage was missing, contradicted itself or went beyond its limit, by model',
      labelNames: ['model', 'finding'],
      registers,
    }),
    bodiesRefused: new Counter({
      name: 'holdfast_gateway_bodies_refused_total',
      help: 'Request bodies refused before their request was looked at, by error code',
      labelNames: ['code'],
      registers,
    }),
    alarms: new Counter({
      name: 'holdfast_gateway_alarms_total',
      help: 'Late or unstorable finishes (platform cost), and models of which many answers are estimated',
      labelNames: ['alarm'],
      registers,
    }),
    freeNotPriced: new Counter({
      name: 'holdfast_gateway_free_not_priced_total',
      help: 'Requests to :free models whose cost is not booked, because neither they nor their namesakes have a price',
      labelNames: ['model'],
      registers,
    }),
    settleDropped: new Counter({
      name: 'holdfast_gateway_settle_dropped_total',
      help: 'Finished requests left to the sweep',
      registers,
    }),
    holdSeconds: new Histogram({
      name: 'holdfast_gateway_hold_seconds',
      help: 'Time to take a hold',
      buckets: [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 3],
      registers,
    }),
  };
}
