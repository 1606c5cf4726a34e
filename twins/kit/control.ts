/** The control API of a twin, `/_twin/`: finding the route of a call, refusing what it does not take, answering errors. */
import { BadInput, type JsonObject, readObject, refuseOtherFields } from './input.ts';

export const CONTROL_PREFIX = '/_twin/';

export interface ControlAnswer {
  readonly status: number;
  readonly body: unknown;
}

/** By method and path, `:id` in place of the second segment; with the fields that the body may have. */
export type ControlRoutes<Context> = Readonly<
  Record<
    string,
    { readonly fields: readonly string[]; readonly run: (context: Context, body: JsonObject, id: string) => unknown }
  >
>;

/** A call that a twin refuses for a reason of its own. */
export interface ControlRefusal {
  readonly status: number;
  readonly message: string;
  readonly field?: string | null;
}

export interface Control<Context> {
  readonly routes: ControlRoutes<Context>;
  readonly context: Context;
  /** Keeps what has changed, before the call is answered. */
  readonly flush: () => void;
  /** What an error of the twin's own answers; null where it is a bug. */
  readonly refusalOf: (error: unknown) => ControlRefusal | null;
}

/** Answers one call. Rejects with what neither input nor the twin's own rules explain. */
export async function answerControl<Context>(
  { routes, context, flush, refusalOf }: Control<Context>,
  { method, path, body }: { readonly method: string; readonly path: string; readonly body: unknown },
): Promise<ControlAnswer> {
  const segments = path.slice(CONTROL_PREFIX.length).split('/');
  const [first = '', id = ''] = segments;
  const patterns = [segments, ...(segments.length > 1 ? [segments.with(1, ':id')] : [])];
  const route = patterns
    .map((pattern) => routes[`${method} ${pattern.join('/')}`])
    .find((found) => found !== undefined);
  if (route === undefined) return failure({ status: 404, message: `The twin has no route ${method} ${path}.` });
  try {
    const source = readObject(body ?? {}, 'body');
    refuseOtherFields(source, route.fields, first);
    const answer = await route.run(context, source, id);
    flush();
    return { status: 200, body: answer };
  } catch (error) {
    if (error instanceof BadInput) return failure({ status: 400, message: error.message, field: error.field });
    const refusal = refusalOf(error);
    if (refusal === null) throw error;
    return failure(refusal);
  }
}

function failure({ status, message, field = null }: ControlRefusal): ControlAnswer {
  return { status, body: { error: { message, field } } };
}
