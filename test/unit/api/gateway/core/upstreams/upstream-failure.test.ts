/**
 * The shapes in which providers send errors, and what each means for the client and for staff. The shapes are those of
 * the providers' own documentation and of reports by their users; a row names where it comes from.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'mocha';
import {
  failureInAnswer,
  failureOfResponse,
  type UpstreamFailure,
} from '../../../../../../api/gateway/core/upstreams/upstream-failure.ts';
import { openAiChat } from '../../../../../../api/gateway/dialects/openai-chat/openai-chat.ts';
import type { UpstreamKind } from '../../../../../../domain/requests/upstream-evidence.ts';

const CONTEXT = { reader: openAiChat, keys: ['provider-key-123456'], said: () => '' };

/** The failure of an answer with this status and body. */
async function failureOf(
  status: number,
  body: unknown,
  headers: Readonly<Record<string, string>> = {},
  said = '',
): Promise<UpstreamFailure> {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  const response = {
    statusCode: status,
    headers,
    body: new Response(text).body,
  } as unknown as Parameters<typeof failureOfResponse>[0];
  return failureOfResponse(response, { ...CONTEXT, said: () => said });
}

interface Row {
  readonly from: string;
  readonly status: number;
  readonly body: unknown;
  /** What the client gets: status, code, words. */
  readonly client: readonly [number, string, RegExp];
  readonly kind: UpstreamKind;
  readonly param?: string;
}

const ROWS: readonly Row[] = [
  {
    from: 'OpenAI',
    status: 400,
    body: {
      error: {
        message: "This model's maximum context length is 4097 tokens. However, you requested 5000 tokens.",
        type: 'invalid_request_error',
        param: 'messages',
        code: 'context_length_exceeded',
      },
    },
    client: [400, 'context_length_exceeded', /^This model's maximum context length is 4097 tokens\./],
    kind: 'rejected',
    param: 'messages',
  },
  {
    from: 'OpenAI, without a code',
    status: 400,
    body: {
      error: {
        message: 'Unrecognized request argument supplied: foo',
        type: 'invalid_request_error',
        param: null,
        code: null,
      },
    },
    client: [400, 'upstream_rejected', /^Unrecognized request argument supplied: foo$/],
    kind: 'rejected',
  },
  {
    from: 'OpenAI: a prompt refused by its policy',
    status: 400,
    body: {
      error: {
        message: 'Invalid prompt: your prompt was flagged as potentially violating our usage policy.',
        type: 'invalid_request_error',
        code: 'invalid_prompt',
      },
    },
    client: [400, 'invalid_prompt', /usage policy/],
    kind: 'moderation',
  },
  {
    from: 'OpenAI: no such model',
    status: 404,
    body: {
      error: {
        message: 'The model `gpt-9` does not exist or you do not have access to it.',
        type: 'invalid_request_error',
        code: 'model_not_found',
      },
    },
    client: [404, 'upstream_rejected', /^The model provider answered 404\.$/],
    kind: 'unknown_model',
  },
  {
    from: 'OpenAI: a wrong path',
    status: 404,
    body: {
      error: {
        message: 'Invalid URL (POST /v1/v1/chat/completions)',
        type: 'invalid_request_error',
        param: null,
        code: null,
      },
    },
    client: [404, 'upstream_rejected', /^The model provider answered 404\.$/],
    kind: 'wrong_path',
  },
  {
    from: 'FastAPI: a wrong path',
    status: 404,
    body: { detail: 'Not Found' },
    client: [404, 'upstream_rejected', /^The model provider answered 404\.$/],
    kind: 'wrong_path',
  },
  {
    from: 'a web server: a wrong path',
    status: 404,
    body: '<html><head><title>404 Not Found</title></head><body>nginx</body></html>',
    client: [404, 'upstream_rejected', /^The model provider answered 404\.$/],
    kind: 'wrong_path',
  },
  {
    from: 'OpenAI: a 404 about the request',
    status: 404,
    body: {
      error: { message: 'No such File object: file-abc', type: 'invalid_request_error', param: 'id', code: null },
    },
    client: [404, 'upstream_rejected', /^No such File object: file-abc$/],
    kind: 'rejected',
    param: 'id',
  },
  {
    from: 'OpenRouter: a 404 about the request',
    status: 404,
    body: { error: { message: 'No endpoints found that support image input', code: 404 } },
    client: [404, 'upstream_rejected', /^No endpoints found that support image input$/],
    kind: 'rejected',
  },
  {
    from: 'FastAPI, vLLM and others: a list of fields',
    status: 422,
    body: {
      detail: [
        { type: 'missing', loc: ['body', 'messages', 0, 'content'], msg: 'Field required', input: { role: 'user' } },
        {
          type: 'int_parsing',
          loc: ['body', 'n'],
          msg: 'Input should be a valid integer',
          input: 'the customer wrote this',
        },
      ],
    },
    client: [422, 'upstream_rejected', /^messages\.0\.content: Field required; n: Input should be a valid integer$/],
    kind: 'rejected',
    param: 'messages.0.content',
  },
  {
    from: 'FastAPI: detail as text',
    status: 400,
    body: { detail: 'tool_choice is not supported' },
    client: [400, 'upstream_rejected', /^tool_choice is not supported$/],
    kind: 'rejected',
  },
  {
    from: 'FastAPI: detail as an object',
    status: 400,
    body: { detail: { message: 'top_k is too large', code: 'bad_top_k' } },
    client: [400, 'bad_top_k', /^top_k is too large$/],
    kind: 'rejected',
  },
  {
    from: 'Mistral: a message that is an object',
    status: 422,
    body: {
      object: 'error',
      message: {
        detail: [{ type: 'extra_forbidden', loc: ['body', 'foo'], msg: 'Extra inputs are not permitted', input: 1 }],
      },
      type: 'invalid_request_error',
      param: null,
      code: null,
    },
    client: [422, 'upstream_rejected', /^foo: Extra inputs are not permitted$/],
    kind: 'rejected',
    param: 'foo',
  },
  {
    from: 'Mistral',
    status: 400,
    body: { object: 'error', message: 'Invalid model: foo', type: 'invalid_model', param: 'model', code: '1500' },
    client: [400, 'upstream_rejected', /^Invalid model: foo$/],
    kind: 'rejected',
    param: 'model',
  },
  {
    from: 'vLLM, older: flat, a numeric code, no code for the context',
    status: 400,
    body: {
      object: 'error',
      message: "This model's maximum context length is 8192 tokens.",
      type: 'BadRequestError',
      param: null,
      code: 400,
    },
    client: [400, 'context_length_exceeded', /maximum context length/],
    kind: 'rejected',
  },
  {
    from: 'llama.cpp: its own type for the context',
    status: 400,
    body: {
      error: {
        code: 400,
        message: 'the request exceeds the available context size, try increasing it',
        type: 'exceed_context_size_error',
        n_prompt_tokens: 70000,
        n_ctx: 65536,
      },
    },
    client: [400, 'context_length_exceeded', /^the request exceeds the available context size/],
    kind: 'rejected',
  },
  {
    from: 'Anthropic: the context in words only',
    status: 400,
    body: {
      type: 'error',
      error: { type: 'invalid_request_error', message: 'prompt is too long: 345320 tokens > 199999 maximum' },
    },
    client: [400, 'context_length_exceeded', /^prompt is too long/],
    kind: 'rejected',
  },
  {
    from: 'Anthropic: our account has no money, told as a bad request',
    status: 400,
    body: {
      type: 'error',
      error: {
        type: 'invalid_request_error',
        message:
          'Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits.',
      },
    },
    client: [502, 'upstream_failed', /^The model provider failed\. You were not charged\.$/],
    kind: 'billing',
  },
  {
    from: 'Google: a list with one error',
    status: 400,
    body: [{ error: { code: 400, message: 'Request contains an invalid argument.', status: 'INVALID_ARGUMENT' } }],
    client: [400, 'upstream_rejected', /^Request contains an invalid argument\.$/],
    kind: 'rejected',
  },
  {
    from: 'Google: our key, told as a bad request',
    status: 400,
    body: [
      {
        error: {
          code: 400,
          message: 'API key not valid. Please pass a valid API key.',
          status: 'INVALID_ARGUMENT',
          details: [
            {
              '@type': 'type.googleapis.com/google.rpc.ErrorInfo',
              reason: 'API_KEY_INVALID',
              domain: 'googleapis.com',
            },
          ],
        },
      },
    ],
    client: [502, 'upstream_failed', /^The model provider failed/],
    kind: 'credentials',
  },
  {
    from: 'a proxy: JSON in the message',
    status: 400,
    body: {
      error: {
        message: JSON.stringify({
          error: { code: 400, message: 'max_tokens is too large', status: 'INVALID_ARGUMENT' },
        }),
        code: 400,
        status: 'Bad Request',
      },
    },
    client: [400, 'upstream_rejected', /^max_tokens is too large$/],
    kind: 'rejected',
  },
  {
    from: 'a proxy: words and then JSON',
    status: 400,
    body: {
      error: {
        message: `litellm.BadRequestError: OpenAIException - ${JSON.stringify({ error: { message: 'stop may have four entries', code: 'too_many_stops' } })}`,
        code: '400',
      },
    },
    client: [400, 'too_many_stops', /^stop may have four entries$/],
    kind: 'rejected',
  },
  {
    from: 'OpenRouter: the words of the provider behind it',
    status: 400,
    body: {
      error: {
        message: 'Provider returned error',
        code: 400,
        metadata: {
          raw: '{"error":{"message":"temperature must be below 2","code":"bad_temperature"}}',
          provider_name: 'X',
        },
      },
    },
    client: [400, 'bad_temperature', /^temperature must be below 2$/],
    kind: 'rejected',
  },
  {
    from: 'OpenRouter: content refused by moderation',
    status: 403,
    body: {
      error: {
        code: 403,
        message: 'Your chosen model requires moderation and your input was flagged for "violence".',
        metadata: { reasons: ['violence'], flagged_input: 'how do I…', provider_name: 'X', model_slug: 'x/y' },
      },
    },
    client: [400, 'content_filter', /flagged for "violence"/],
    kind: 'moderation',
  },
  {
    from: 'OpenRouter: our key may not',
    status: 403,
    body: { error: { code: 403, message: 'Only management keys can perform this operation' } },
    client: [502, 'upstream_failed', /^The model provider failed/],
    kind: 'credentials',
  },
  {
    from: 'xAI: content refused, in words that name our account',
    status: 403,
    body: {
      code: 'The caller does not have permission to execute the specified operation',
      error: 'Content violates usage guidelines. Team: 1111-2222, API key ID: 3333-4444. Failed check: SAFETY',
    },
    client: [400, 'content_filter', /^The model provider refused the content of this request\.$/],
    kind: 'moderation',
  },
  {
    from: 'xAI: error as text beside a code that is a sentence',
    status: 400,
    body: { code: 'Client specified an invalid argument', error: 'Model grok does not support parameter stop.' },
    client: [400, 'upstream_rejected', /^Model grok does not support parameter stop\.$/],
    kind: 'rejected',
  },
  {
    from: 'OpenAI: an account closed for what it sent is ours, not the request',
    status: 403,
    body: {
      error: {
        message: 'Your account was suspended for violating our usage policies.',
        type: 'invalid_request_error',
        code: null,
      },
    },
    client: [502, 'upstream_failed', /^The model provider failed/],
    kind: 'credentials',
  },
  {
    from: 'Azure: its content filter',
    status: 400,
    body: {
      error: {
        message: "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
        type: null,
        param: 'prompt',
        code: 'content_filter',
        status: 400,
        innererror: {
          code: 'ResponsibleAIPolicyViolation',
          content_filter_result: { hate: { filtered: true, severity: 'high' } },
        },
      },
    },
    client: [400, 'content_filter', /content management policy/],
    kind: 'moderation',
  },
  {
    from: 'Azure: an unknown deployment',
    status: 404,
    body: { error: { code: 'DeploymentNotFound', message: 'The API deployment for this resource does not exist.' } },
    client: [404, 'upstream_rejected', /^The model provider answered 404\.$/],
    kind: 'unknown_model',
  },
  {
    from: 'DashScope: content inspection',
    status: 400,
    body: {
      error: {
        code: 'data_inspection_failed',
        param: null,
        message: 'Input data may contain inappropriate content.',
        type: 'data_inspection_failed',
      },
      id: 'chatcmpl-1',
    },
    client: [400, 'data_inspection_failed', /inappropriate content/],
    kind: 'moderation',
  },
  {
    from: 'DashScope: our account is overdue',
    status: 400,
    body: {
      error: {
        code: 'Arrearage',
        param: null,
        message: 'Access denied, please make sure your account is in good standing.',
        type: 'Arrearage',
      },
    },
    client: [502, 'upstream_failed', /^The model provider failed/],
    kind: 'billing',
  },
  {
    from: 'Moonshot: content refused, told by the type',
    status: 400,
    body: {
      error: { type: 'content_filter', message: 'The request was rejected because it was considered high risk' },
    },
    client: [400, 'content_filter', /high risk/],
    kind: 'moderation',
  },
  {
    from: 'AWS Bedrock',
    status: 400,
    body: {
      __type: 'com.amazon.coral.service#ValidationException',
      Message: 'Malformed input request: #: extraneous key [foo] is not permitted',
    },
    client: [400, 'upstream_rejected', /^Malformed input request/],
    kind: 'rejected',
  },
  {
    from: 'AWS Bedrock, flat',
    status: 403,
    body: { message: 'User is not authorized to perform: bedrock:InvokeModel on resource: arn:aws:bedrock:1234' },
    client: [502, 'upstream_failed', /^The model provider failed/],
    kind: 'credentials',
  },
  {
    from: 'Cohere',
    status: 400,
    body: { id: '1', message: 'invalid request: all elements in history must have a message.' },
    client: [400, 'upstream_rejected', /^invalid request: all elements/],
    kind: 'rejected',
  },
  {
    from: 'Cloudflare Workers AI',
    status: 400,
    body: {
      errors: [{ message: 'AiError: Bad input: max_tokens must be <= 2048', code: 5006 }],
      success: false,
      result: {},
      messages: [],
    },
    client: [400, 'upstream_rejected', /max_tokens must be <= 2048/],
    kind: 'rejected',
  },
  {
    from: 'Cloudflare Workers AI: our free allocation is used up',
    status: 429,
    body: {
      errors: [{ message: 'You have used up your daily free allocation of 10,000 neurons.', code: 3036 }],
      success: false,
    },
    client: [502, 'upstream_failed', /^The model provider failed/],
    kind: 'billing',
  },
  {
    from: 'Hugging Face',
    status: 422,
    body: { error: 'Input validation error: `inputs` must have less than 4096 tokens.', error_type: 'validation' },
    client: [422, 'upstream_rejected', /^Input validation error/],
    kind: 'rejected',
  },
  {
    from: 'Hugging Face: a list of texts',
    status: 400,
    body: { error: ['Error in `parameters`: unexpected field', 'Error in `inputs`: empty'] },
    client: [400, 'upstream_rejected', /^Error in `parameters`: unexpected field; Error in `inputs`: empty$/],
    kind: 'rejected',
  },
  {
    from: 'Spring, Fastify: the error is a name',
    status: 400,
    body: { statusCode: 400, error: 'Bad Request', message: 'body/messages must NOT have fewer than 1 items' },
    client: [400, 'upstream_rejected', /^body\/messages must NOT have fewer than 1 items$/],
    kind: 'rejected',
  },
  {
    from: 'OAuth: a name with a description',
    status: 400,
    body: { error: 'unsupported_model_feature', error_description: 'Tools are not available.' },
    client: [400, 'unsupported_model_feature', /^Tools are not available\.$/],
    kind: 'rejected',
  },
  {
    from: 'NVIDIA: problem details (RFC 9457)',
    status: 422,
    body: { type: 'urn:nvcf:invalid', title: 'Unprocessable Entity', status: 422, detail: 'top_p must be above 0' },
    client: [422, 'upstream_rejected', /^top_p must be above 0$/],
    kind: 'rejected',
  },
  {
    from: 'Baidu',
    status: 400,
    body: { error_code: 336003, error_msg: 'the max length of the question is 4800', id: 'as-1' },
    client: [400, 'upstream_rejected', /^the max length of the question is 4800$/],
    kind: 'rejected',
  },
  {
    from: 'Novita: money by code',
    status: 400,
    body: { code: 400, reason: 'BILLING_BALANCE_NOT_ENOUGH', message: 'balance not enough', metadata: {} },
    client: [502, 'upstream_failed', /^The model provider failed/],
    kind: 'billing',
  },
  {
    from: 'Tencent',
    status: 400,
    body: {
      Response: {
        Error: { Code: 'InvalidParameterValue.Temperature', Message: 'temperature must be between 0 and 2' },
        RequestId: '1',
      },
    },
    client: [400, 'InvalidParameterValue.Temperature', /^temperature must be between 0 and 2$/],
    kind: 'rejected',
  },
  {
    from: 'Ollama: plain text for an error',
    status: 400,
    body: { error: 'registry.ollama.ai/library/x does not support tools' },
    client: [400, 'upstream_rejected', /does not support tools$/],
    kind: 'rejected',
  },
  {
    from: 'a text body',
    status: 415,
    body: 'Expected request with `Content-Type: application/json`',
    client: [415, 'upstream_rejected', /^Expected request with/],
    kind: 'rejected',
  },
  {
    from: 'a JSON string',
    status: 400,
    body: '"seed must be positive"',
    client: [400, 'upstream_rejected', /^seed must be positive$/],
    kind: 'rejected',
  },
  {
    from: 'an event, although there is no stream',
    status: 400,
    body: 'event: error\ndata: {"error": {"message": "n must be 1", "code": "bad_n"}}\n\n',
    client: [400, 'bad_n', /^n must be 1$/],
    kind: 'rejected',
  },
  {
    from: 'a web page with a bad request',
    status: 400,
    body: '<!DOCTYPE html><html><head><title>400 Bad Request</title></head><body><h1>cloudflare</h1></body></html>',
    client: [400, 'upstream_rejected', /^400 Bad Request$/],
    kind: 'rejected',
  },
  {
    from: 'Groq: a request above our tokens per minute',
    status: 413,
    body: {
      error: {
        message:
          'Request too large for model `x` in organization `org_01abc2345defgh` on tokens per minute (TPM): Limit 6000, Requested 8000.',
        type: 'tokens',
        code: 'rate_limit_exceeded',
      },
    },
    client: [413, 'upstream_rejected', /^Request too large for model `x` in organization `…` on tokens per minute/],
    kind: 'rejected',
  },
  {
    from: 'nothing at all',
    status: 400,
    body: '',
    client: [400, 'upstream_rejected', /^The model provider answered 400\.$/],
    kind: 'rejected',
  },
  { from: 'null', status: 400, body: 'null', client: [400, 'upstream_rejected', /answered 400/], kind: 'rejected' },
  { from: 'a number', status: 400, body: '42', client: [400, 'upstream_rejected', /answered 400/], kind: 'rejected' },
  {
    from: 'an empty list',
    status: 400,
    body: '[]',
    client: [400, 'upstream_rejected', /answered 400/],
    kind: 'rejected',
  },
  {
    from: 'a message that is no text',
    status: 400,
    body: { error: { message: { nested: true } } },
    client: [400, 'upstream_rejected', /answered 400/],
    kind: 'rejected',
  },
  {
    from: 'bytes that are no text',
    status: 400,
    body: '\u001f\ufffd\b\u0000\ufffd\ufffd',
    client: [400, 'upstream_rejected', /^The model provider answered 400\.$/],
    kind: 'rejected',
  },
  {
    from: 'lists without end',
    status: 400,
    body: '['.repeat(30_000),
    client: [400, 'upstream_rejected', /./],
    kind: 'rejected',
  },
  {
    from: 'nested without end',
    status: 400,
    body: `${'{"error":'.repeat(5000)}"x"${'}'.repeat(5000)}`,
    client: [400, 'upstream_rejected', /answered 400/],
    kind: 'rejected',
  },
  {
    from: 'somebody who speaks in our name',
    status: 400,
    body: { error: { message: 'no money', code: 'insufficient_user_quota', type: 'insufficient_quota' } },
    client: [502, 'upstream_failed', /^The model provider failed/],
    kind: 'billing',
  },
  {
    from: 'somebody with our code',
    status: 400,
    body: { error: { message: 'no', code: 'key_limit_exceeded' } },
    client: [400, 'upstream_rejected', /^no$/],
    kind: 'rejected',
  },
  // Statuses: the table of docs/api.md.
  ...(
    [
      [301, 502, 'upstream_failed', 'wrong_path'],
      [307, 502, 'upstream_failed', 'wrong_path'],
      [401, 502, 'upstream_failed', 'credentials'],
      [402, 502, 'upstream_failed', 'billing'],
      [403, 502, 'upstream_failed', 'credentials'],
      [405, 502, 'upstream_failed', 'wrong_path'],
      [407, 502, 'upstream_failed', 'credentials'],
      [408, 502, 'upstream_failed', 'failed'],
      [409, 502, 'upstream_failed', 'failed'],
      [424, 502, 'upstream_failed', 'failed'],
      [425, 502, 'upstream_failed', 'failed'],
      [431, 502, 'upstream_failed', 'failed'],
      [499, 502, 'upstream_failed', 'failed'],
      [500, 502, 'upstream_failed', 'failed'],
      [502, 502, 'upstream_failed', 'failed'],
      [503, 502, 'upstream_failed', 'failed'],
      [504, 502, 'upstream_failed', 'failed'],
      [529, 502, 'upstream_failed', 'failed'],
      [202, 502, 'upstream_failed', 'unreadable'],
      [204, 502, 'upstream_failed', 'unreadable'],
    ] as const
  ).map(([status, shown, code, kind]) => ({
    from: `status ${status}`,
    status,
    body: status === 204 ? '' : { error: { message: 'sk-live-1234567890 of org-12345678 is in trouble' } },
    client: [shown, code, /^The model provider failed\. You were not charged\.$/] as const,
    kind,
  })),
  ...([429, 498] as const).map((status) => ({
    from: `status ${status}`,
    status,
    body: { error: { message: 'Rate limit reached for org-12345678' } },
    client: [429, 'upstream_rate_limited', /^The model provider is rate limiting/] as const,
    kind: 'rate_limited' as const,
  })),
  {
    from: 'status 410: the model is gone',
    status: 410,
    body: { error: { message: 'This model was retired.' } },
    client: [404, 'upstream_rejected', /^This model was retired\.$/],
    kind: 'rejected',
  },
  {
    from: 'OpenAI: our quota, told as too many requests',
    status: 429,
    body: {
      error: {
        message: 'You exceeded your current quota, please check your plan and billing details.',
        type: 'insufficient_quota',
        code: 'insufficient_quota',
      },
    },
    client: [502, 'upstream_failed', /^The model provider failed/],
    kind: 'billing',
  },
];

describe('failures of an upstream', () => {
  for (const { from, status, body, client, kind, param } of ROWS) {
    it(`${from}, status ${status}: ${client[0]} ${client[1]}, ${kind}`, async () => {
      const { refusal, problem } = await failureOf(status, body);
      assert.deepEqual([refusal.status, refusal.shownCode, problem.kind], [client[0], client[1], kind]);
      assert.match(refusal.message, client[2]);
      assert.equal(refusal.param, param ?? null);
      assert.equal(problem.status, status);
      assert.doesNotMatch(`${problem.message} ${refusal.message}`, /sk-live|org-1|org_0|how do I/);
    });
  }

  describe('inside an answer with status 200', () => {
    const INSIDE: readonly (Omit<Row, 'status'> & { readonly staffCode: string | null })[] = [
      {
        from: 'OpenRouter: the provider behind it failed',
        body: {
          error: { code: 502, message: 'Provider returned error', metadata: { raw: 'overloaded', provider_name: 'X' } },
        },
        client: [502, 'upstream_failed', /^The model provider failed/],
        kind: 'failed',
        staffCode: '502',
      },
      {
        from: 'OpenRouter: too many requests behind it',
        body: { error: { code: 429, message: 'Rate limited' }, user_id: 'u' },
        client: [429, 'upstream_rate_limited', /rate limiting/],
        kind: 'rate_limited',
        staffCode: '429',
      },
      {
        from: 'MiniMax: content',
        body: { base_resp: { status_code: 1026, status_msg: 'input new_sensitive' }, choices: null },
        client: [400, 'content_filter', /^input new_sensitive$/],
        kind: 'moderation',
        staffCode: '1026',
      },
      {
        from: 'MiniMax: money',
        body: { base_resp: { status_code: 1008, status_msg: 'insufficient balance' } },
        client: [502, 'upstream_failed', /^The model provider failed/],
        kind: 'billing',
        staffCode: '1008',
      },
      {
        from: 'MiniMax: parameters',
        body: { base_resp: { status_code: 2013, status_msg: 'invalid params, n must be 1' } },
        client: [400, 'upstream_rejected', /^invalid params, n must be 1$/],
        kind: 'rejected',
        staffCode: '2013',
      },
      {
        from: 'Anthropic and Azure: an error event',
        body: { type: 'error', error: { type: 'overloaded_error', message: 'Overloaded' } },
        client: [502, 'upstream_failed', /^The model provider failed/],
        kind: 'failed',
        staffCode: 'overloaded_error',
      },
      {
        from: 'vLLM: the context, once the stream has begun',
        body: {
          object: 'error',
          message: "This model's maximum context length is 10 tokens",
          type: 'BadRequestError',
          param: null,
          code: 400,
        },
        client: [400, 'context_length_exceeded', /maximum context length/],
        kind: 'rejected',
        staffCode: 'BadRequestError',
      },
      {
        from: 'OpenRouter: an error in the choice that it ended',
        body: {
          choices: [
            { index: 0, delta: { content: 'half' }, finish_reason: 'error', error: { code: 502, message: 'Gone' } },
          ],
        },
        client: [502, 'upstream_failed', /^The model provider failed/],
        kind: 'failed',
        staffCode: '502',
      },
      {
        from: 'a code without a status',
        body: { error: { message: 'The content was filtered.', code: 'content_filter' } },
        client: [400, 'content_filter', /^The content was filtered\.$/],
        kind: 'moderation',
        staffCode: 'content_filter',
      },
      {
        from: 'nothing that could be read',
        body: { hello: 'world' },
        client: [502, 'upstream_failed', /^The model provider failed/],
        kind: 'failed',
        staffCode: null,
      },
    ];
    for (const { from, body, client, kind, staffCode } of INSIDE) {
      it(`${from}: ${client[0]} ${client[1]}, ${kind}`, () => {
        const { refusal, problem } = failureInAnswer(body, CONTEXT);
        assert.deepEqual([refusal.status, refusal.shownCode, problem.kind], [client[0], client[1], kind]);
        assert.match(refusal.message, client[2]);
        assert.deepEqual([problem.status, problem.code], [200, staffCode]);
      });
    }
  });

  it('a wait is passed on in every form: seconds, a date, milliseconds, the body; never less than a second or more than a day', async () => {
    const at = (seconds: number): string => new Date(Date.now() + seconds * 1000).toUTCString();
    const delay = { error: { details: [{ '@type': 'google.rpc.RetryInfo', retryDelay: '17.5s' }], message: 'm' } };
    const WAITS: readonly [Record<string, string>, unknown, number, number][] = [
      [{ 'retry-after': '7' }, {}, 7, 7],
      [{ 'retry-after': '1.2' }, {}, 2, 2],
      [{ 'retry-after': '0' }, {}, 1, 1],
      [{ 'retry-after': '-5' }, {}, 1, 1],
      [{ 'retry-after': 'soon' }, {}, 1, 1],
      [{ 'retry-after': '2026' }, {}, 2026, 2026],
      [{ 'retry-after': '999999999' }, {}, 86_400, 86_400],
      [{ 'retry-after': at(30) }, {}, 28, 31],
      [{ 'retry-after': at(-30) }, {}, 1, 1],
      [{ 'retry-after-ms': '1500', 'retry-after': '60' }, {}, 2, 2],
      [{ 'retry-after-ms': 'NaN', 'retry-after': '60' }, {}, 60, 60],
      [{}, delay, 18, 18],
      [{}, {}, 1, 1],
    ];
    for (const [headers, body, least, most] of WAITS) {
      const { refusal } = await failureOf(429, body, headers);
      const wait = refusal.retryAfterSeconds!;
      assert.ok(wait >= least && wait <= most, `${JSON.stringify(headers)} ${wait}`);
    }
    assert.equal((await failureOf(503, {}, { 'retry-after': '9' })).refusal.retryAfterSeconds, 9);
    assert.equal((await failureOf(503, {})).refusal.retryAfterSeconds, null);
  });

  it('the provider key that was used is shown to nobody, however it is quoted', async () => {
    const message = 'The header Authorization: Bearer provider-key-123456 (provider-key-123456) is odd';
    const { refusal, problem } = await failureOf(400, { error: { message } });
    assert.match(refusal.message, /is odd/);
    assert.match(problem.message ?? '', /is odd/);
    assert.doesNotMatch(`${refusal.message}${problem.message}`, /provider-key/);
  });
});
