/** Refusals that several places of the gateway and its dialects give. */
import { Refusal } from '../../../domain/errors.ts';

/** `param` has a wrong type or value. */
export function invalid(param: string, message: string): Refusal {
  return new Refusal('invalid_body', { param, message: `${param} ${message}.` });
}

/** `param` asks for something that changes the price and that is not held for. */
export function unsupported(param: string, message = 'changes the price and is not supported here'): Refusal {
  return new Refusal('unsupported_parameter', { param, message: `${param} ${message}.` });
}

/** There is no such model, or none that the caller may see. */
export function modelNotFound(modelId: string): Refusal {
  const message = `The model "${modelId.slice(0, 200)}" does not exist.`;
  return new Refusal('model_not_found', { param: 'model', message });
}

/** The key's allow-list does not have the model. */
export function modelNotAllowed(modelId: string): Refusal {
  const message = `This API key may not use the model "${modelId}".`;
  return new Refusal('model_not_allowed', { param: 'model', message });
}
