/**
 * The twin's own HTTP routes under `/_twin`, to steer it from another process: knobs, faults, and the
 * record of what was really produced. They mirror the methods of `UpstreamTwin` one to one.
 *
 *   GET    /_twin/config                        the knobs
 *   POST   /_twin/config                        changes the given knobs
 *   GET    /_twin/forms                         what an answer, its usage and its errors can look like
 *   GET    /_twin/requests/{id}                 one record; 404 when the id never arrived
 *   GET    /_twin/requests?since_ordinal&limit  records in order of arrival, with totals
 *   DELETE /_twin/requests                      forgets all records
 *   GET    /_twin/faults                        rules with times left
 *   POST   /_twin/faults                        adds a rule, answers its id
 *   DELETE /_twin/faults                        drops all rules
 *   POST   /_twin/reset                         records, faults and knobs as at the start
 */
import type { ConfigInput, UpstreamTwinConfig } from './config.ts';
import type { FaultRules } from './fault-rules.ts';
import type { FaultRule } from './faults.ts';
import { listForms } from './form-list.ts';
import { BadInput, readCount, readPathSegment } from '../kit/input.ts';
import type { RequestRecord } from './records.ts';
import type { RequestPage } from './requests.ts';

export const CONTROL_PREFIX = '/_twin/';

export interface TwinControls {
  readonly faults: Pick<FaultRules, 'add' | 'list' | 'clear'>;
  /** The knobs in force. */
  config(): UpstreamTwinConfig;
  /** Changes the given knobs; requests already being answered keep theirs. */
  configure(change: ConfigInput): UpstreamTwinConfig;
  /** The output for a request id; undefined when it never arrived (or is no longer stored). */
  request(requestId: string): RequestRecord | undefined;
  requests(options?: { sinceOrdinal?: number; limit?: number }): RequestPage;
  clearRequests(): void;
  /** Records, faults and knobs as at the start. Answers under way go on. */
  reset(): void;
}

interface ControlAnswer {
  readonly status: number;
  readonly body: unknown;
}

const DONE: ControlAnswer = { status: 200, body: { ok: true } };
const MAX_PAGE = 10_000;

/** Answers one control call. `body` is the parsed JSON, undefined when there was none. */
export function answerControl(controls: TwinControls, method: string, url: URL, body: unknown): ControlAnswer {
  const path = url.pathname.slice(CONTROL_PREFIX.length);
  try {
    if (method === 'GET' && path.startsWith('requests/')) {
      const requestId = readPathSegment(path.slice('requests/'.length), 'request id');
      const record = controls.request(requestId);
      return record === undefined ? failure(404, 'This request never arrived here.') : { status: 200, body: record };
    }
    switch (`${method} ${path}`) {
      case 'GET config':
        return { status: 200, body: controls.config() };
      case 'POST config':
        return { status: 200, body: controls.configure(body as ConfigInput) };
      case 'GET forms':
        return { status: 200, body: listForms() };
      case 'GET requests':
        return { status: 200, body: controls.requests(readPage(url.searchParams)) };
      case 'DELETE requests':
        controls.clearRequests();
        return DONE;
      case 'GET faults':
        return { status: 200, body: { data: controls.faults.list() } };
      case 'POST faults':
        return { status: 201, body: controls.faults.add(body as FaultRule) };
      case 'DELETE faults':
        controls.faults.clear();
        return DONE;
      case 'POST reset':
        controls.reset();
        return DONE;
      default:
        return failure(404, `The twin has no route ${method} ${url.pathname}.`);
    }
  } catch (error) {
    if (error instanceof BadInput) return failure(400, error.message);
    throw error;
  }
}

function readPage(query: URLSearchParams): { sinceOrdinal: number; limit: number } {
  return {
    sinceOrdinal: readCount(Number(query.get('since_ordinal') ?? 0), 'since_ordinal'),
    limit: readCount(Number(query.get('limit') ?? 1_000), 'limit', 1, MAX_PAGE),
  };
}

function failure(status: number, message: string): ControlAnswer {
  return { status, body: { error: { message } } };
}
