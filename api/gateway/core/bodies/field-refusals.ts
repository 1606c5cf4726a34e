/** The two ways in which the body of a chat request is refused: what it says is wrong, or nobody could price it. */
import { Refusal } from '../../../../domain/errors.ts';

/** `param` has a wrong type or value. */
export function invalid(param: string, message: string): Refusal {
  return new Refusal('invalid_body', { param, message: `${param} ${message}.` });
}

/** `param` asks for something that changes the price and that is not held for. */
export function unsupported(param: string, message = 'changes the price and is not supported here'): Refusal {
  return new Refusal('unsupported_parameter', { param, message: `${param} ${message}.` });
}
