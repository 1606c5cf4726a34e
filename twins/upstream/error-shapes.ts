/** The bodies in which providers say that something failed, by name: for HTTP errors and for errors within a 200. */

export interface ErrorFacts {
  readonly status: number;
  readonly message: string;
  readonly code: string | null;
  readonly param: string | null;
}

export interface ErrorShape {
  /** JSON, or text that is sent as it is. */
  readonly body: (facts: ErrorFacts) => unknown;
  readonly contentType?: string;
  readonly source: string;
}

function openAiType(status: number): string {
  if (status >= 500) return 'server_error';
  return status === 429 ? 'rate_limit_error' : 'invalid_request_error';
}

function openAiCode({ status, code }: ErrorFacts): string | null {
  if (code !== null) return code;
  if (status === 401) return 'invalid_api_key';
  return status === 429 ? 'rate_limit_exceeded' : null;
}

const SHAPES = {
  openai: {
    body: (facts) => ({
      error: {
        message: facts.message,
        type: openAiType(facts.status),
        param: facts.param,
        code: openAiCode(facts),
      },
    }),
    source: 'OpenAI API reference, errors',
  },
  error_text: { body: ({ message }) => ({ error: message }), source: 'Ollama; Hugging Face TGI; xAI with code' },
  xai: {
    body: ({ message, code }) => ({ code: code ?? 'Some requested entity was not found', error: message }),
    source: 'xAI API, error bodies',
  },
  openrouter: {
    body: ({ status, message, code }) => ({
      error: { code: status, message, metadata: { provider_name: 'Twin', raw: message, reasons: [code] } },
      user_id: 'user_twin',
    }),
    source: 'OpenRouter docs, errors',
  },
  /** A chunk that has a choice as well: the error stands beside the choices. */
  openrouter_chunk: {
    body: ({ status, message }) => ({
      id: 'gen-twin',
      object: 'chat.completion.chunk',
      created: 1_700_000_000,
      model: 'twin',
      provider: 'Twin',
      error: { code: status, message },
      choices: [{ index: 0, delta: { content: '' }, finish_reason: 'error', native_finish_reason: null }],
    }),
    source: 'OpenRouter docs, errors: streaming',
  },
  /** The error stands in the choice. */
  choice_error: {
    body: ({ status, message }) => ({
      id: 'gen-twin',
      object: 'chat.completion.chunk',
      created: 1_700_000_000,
      model: 'twin',
      choices: [{ index: 0, delta: { content: '' }, finish_reason: 'error', error: { code: status, message } }],
    }),
    source: 'OpenRouter docs, errors: an error of a choice',
  },
  groq: {
    body: ({ message }) => ({
      id: 'chatcmpl-twin',
      object: 'chat.completion.chunk',
      created: 1_700_000_000,
      model: 'twin',
      choices: [],
      x_groq: { id: 'req_twin', error: message },
    }),
    source: 'Groq client, ChatCompletionChunk: x_groq.error',
  },
  responses: {
    body: ({ message, code, param }) => ({
      type: 'error',
      code: code ?? 'server_error',
      message,
      param,
      sequence_number: 5,
    }),
    source: 'OpenAI API reference, responses: error event',
  },
  status_failure: {
    body: ({ message }) => ({ status: 'failure', message, error: { message, type: 'APIError' } }),
    source: 'gateways in front of gateways',
  },
  vllm: {
    body: ({ status, message, param }) => ({
      object: 'error',
      message,
      type: status >= 500 ? 'InternalServerError' : 'BadRequestError',
      param,
      code: status,
    }),
    source: 'vLLM, ErrorResponse before 0.10; Mistral',
  },
  mistral: {
    body: ({ message, param }) => ({
      object: 'error',
      message: { detail: [{ type: 'extra_forbidden', loc: ['body', param ?? 'body'], msg: message, input: null }] },
      type: 'invalid_request_error',
      param: null,
      code: null,
      raw_status_code: 422,
    }),
    source: 'Mistral AI; zed-industries/zed issue 57122',
  },
  mistral_list: {
    body: ({ message, param }) => {
      const detail = [{ type: 'extra_forbidden', loc: ['body', param ?? 'body'], msg: message, input: null }];
      return { object: 'Error', detail, message: detail, type: 'invalid_request_error', code: 3001 };
    },
    source: 'Mistral AI; partITech/php-mistral issue 76',
  },
  detail_text: { body: ({ message }) => ({ detail: message }), source: 'FastAPI, HTTPException' },
  detail_list: {
    body: ({ message, param }) => ({
      detail: [{ type: 'extra_forbidden', loc: ['body', param ?? 'body'], msg: message, input: null }],
    }),
    source: 'FastAPI, RequestValidationError; Mistral',
  },
  detail_object: {
    body: ({ message, code }) => ({ detail: { message, code, type: 'invalid_request_error' } }),
    source: 'FastAPI, HTTPException with an object',
  },
  message: { body: ({ message }) => ({ message }), source: 'Cohere; AWS API Gateway; Cerebras' },
  message_list: { body: ({ message }) => ({ message: [message], statusCode: 400 }), source: 'NestJS' },
  code_message: {
    body: ({ status, message, code }) => ({ code: code ?? status, message, request_id: 'twin' }),
    source: 'DashScope; SiliconFlow',
  },
  code_msg: { body: ({ status, message }) => ({ code: status, msg: message, data: null }), source: 'Chinese gateways' },
  anthropic: {
    body: ({ status, message }) => ({
      type: 'error',
      error: { type: status === 529 ? 'overloaded_error' : 'invalid_request_error', message },
      request_id: 'req_twin',
    }),
    source: 'Anthropic API reference, errors',
  },
  errors_list: {
    body: ({ message, status }) => ({ errors: [{ message, code: status }] }),
    source: 'Cloudflare; JSON:API',
  },
  cloudflare: {
    body: ({ message }) => ({ result: null, success: false, errors: [{ code: 5007, message }], messages: [] }),
    source: 'Cloudflare Workers AI',
  },
  errors_text: { body: ({ message }) => ({ errors: message }), source: 'Cloudflare AI Gateway' },
  minimax: {
    body: ({ message }) => ({ id: 'twin', choices: null, base_resp: { status_code: 1004, status_msg: message } }),
    source: 'MiniMax API reference, base_resp',
  },
  baidu: {
    body: ({ message }) => ({ error_code: 336003, error_msg: message, id: 'twin' }),
    source: 'Baidu Qianfan v1',
  },
  google: {
    body: ({ status, message }) => ({ error: { code: status, message, status: 'INVALID_ARGUMENT' } }),
    source: 'Google APIs, error model',
  },
  google_list: {
    body: ({ status, message }) => [{ error: { code: status, message, status: 'INVALID_ARGUMENT' } }],
    source: 'Gemini API, OpenAI compatibility',
  },
  problem: {
    body: ({ status, message }) => ({ type: 'about:blank', title: 'Bad Request', status, detail: message }),
    contentType: 'application/problem+json',
    source: 'RFC 9457',
  },
  list_text: { body: ({ message }) => [message], source: 'proxies' },
  text: { body: ({ message }) => message, contentType: 'text/plain; charset=utf-8', source: 'Envoy; nginx modules' },
  html: {
    body: ({ status, message }) =>
      `<html><head><title>${status}</title></head><body><h1>${message}</h1></body></html>\n`,
    contentType: 'text/html',
    source: 'nginx; Cloudflare',
  },
  json_text: { body: ({ message }) => JSON.stringify(message), source: 'proxies: a JSON string' },
  null: { body: () => 'null', source: 'proxies' },
  empty: { body: () => '', source: 'load balancers' },
} as const satisfies Record<string, ErrorShape>;

export type ErrorShapeName = keyof typeof SHAPES;

export const ERROR_SHAPES: Readonly<Record<ErrorShapeName, ErrorShape>> = SHAPES;

export const ERROR_SHAPE_NAMES = Object.keys(SHAPES) as ErrorShapeName[];

/** The text of an error's body. */
export function errorText(shape: ErrorShapeName, facts: ErrorFacts): string {
  const body = ERROR_SHAPES[shape].body(facts);
  return typeof body === 'string' ? body : JSON.stringify(body);
}
