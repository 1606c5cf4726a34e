/** Percentiles and trends of samples. Owns no measuring; every figure the bench prints is calculated here. */

/** The `q`-quantile (0 … 1) by the nearest-rank rule: always a value that was really measured. NaN without samples. */
export function quantile(samples: Iterable<number>, q: number): number {
  const sorted = Float64Array.from(samples).sort();
  if (sorted.length === 0) return NaN;
  return sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)]!;
}

export interface Summary {
  readonly count: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly max: number;
}

/** NaN throughout without samples. */
export function summarize(samples: Iterable<number>): Summary {
  const all = Float64Array.from(samples);
  return {
    count: all.length,
    p50: quantile(all, 0.5),
    p90: quantile(all, 0.9),
    p99: quantile(all, 0.99),
    max: quantile(all, 1),
  };
}

/** Least-squares slope of y over x; 0 with fewer than two different x. */
export function slope(points: readonly { readonly x: number; readonly y: number }[]): number {
  const n = points.length;
  if (n < 2) return 0;
  const meanX = points.reduce((sum, { x }) => sum + x, 0) / n;
  const meanY = points.reduce((sum, { y }) => sum + y, 0) / n;
  let covariance = 0;
  let variance = 0;
  for (const { x, y } of points) {
    covariance += (x - meanX) * (y - meanY);
    variance += (x - meanX) ** 2;
  }
  return variance === 0 ? 0 : covariance / variance;
}
