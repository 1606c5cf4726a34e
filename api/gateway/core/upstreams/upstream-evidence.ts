/** What a request's row keeps of the upstream that served it, or did not. */
import type { FinishOutcome } from '../../../../domain/requests/request.ts';
import type { UpstreamEvidence, UpstreamProblem } from '../../../../domain/requests/upstream-evidence.ts';
import type { CalledUpstream } from './upstream.ts';

/**
 * The problem that an ending found, else the one that its outcome stands for, with the upstream it is about. Null for a
 * plain answer of the first upstream, and where none was called.
 */
export function evidenceOf(
  upstream: CalledUpstream | null,
  { outcome, problem }: { readonly outcome: FinishOutcome; readonly problem?: UpstreamProblem },
): UpstreamEvidence | null {
  if (upstream === null) return null;
  const found = problem ?? problemOfOutcome(outcome);
  if (found !== null) return { name: upstream.name, ...found };
  if (upstream.isFirst) return null;
  return { name: upstream.name, kind: 'fallback', status: 200, code: null, message: null };
}

function problemOfOutcome(outcome: FinishOutcome): UpstreamProblem | null {
  const plain = { status: null, code: null, message: null };
  switch (outcome) {
    case 'upstream_error':
      return { kind: 'failed', ...plain };
    case 'upstream_timeout':
      return { kind: 'timeout', ...plain };
    case 'empty_completion':
      return { kind: 'empty', ...plain, status: 200 };
    default:
      return null;
  }
}
