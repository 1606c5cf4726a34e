/**
 * Looks into a running process of the stack, or keeps its event loop busy, through Node's own inspector: the product
 * has no door for either. The process must have been started with {@link INSPECTABLE}.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import WebSocket from 'ws';
import type { StackProcess } from './stack.ts';
import { until } from './until.ts';

/** Environment that opens a process's inspector on a free port of its own. */
export const INSPECTABLE = { NODE_OPTIONS: '--inspect=127.0.0.1:0' } as const;

interface Answer {
  readonly id: number;
  readonly result?: { readonly result: { readonly value?: unknown }; readonly exceptionDetails?: unknown };
}

/** Evaluates an expression on the main thread of a process and returns its value, which must be JSON. */
export async function evaluateIn(process: StackProcess, expression: string): Promise<unknown> {
  const address = await until('the inspector to listen', () =>
    process.log.map(({ msg }) => /^Debugger listening on (ws:\S+)$/.exec(String(msg))?.[1]).find(Boolean),
  );
  const socket = new WebSocket(address);
  await once(socket, 'open');
  try {
    const params = { expression, returnByValue: true, awaitPromise: true, includeCommandLineAPI: true };
    socket.send(JSON.stringify({ id: 1, method: 'Runtime.evaluate', params }));
    const [message] = (await once(socket, 'message')) as [Buffer];
    const { result } = JSON.parse(message.toString('utf8')) as Answer;
    assert.equal(result?.exceptionDetails, undefined, JSON.stringify(result?.exceptionDetails));
    return result?.result.value;
  } finally {
    socket.terminate();
  }
}

/** Keeps the event loop of a process from turning for so long. Resolves when it turns again. */
export async function blockEventLoop(process: StackProcess, seconds: number): Promise<void> {
  await evaluateIn(process, `{ const end = Date.now() + ${seconds * 1000}; while (Date.now() < end); }`);
}

/** Bytes that a process holds outside the heap in buffers, garbage not counted. */
export async function bufferBytes(process: StackProcess): Promise<number> {
  const value = await evaluateIn(
    process,
    `(async () => {
      process.getBuiltinModule('node:v8').setFlagsFromString('--expose-gc');
      const collect = process.getBuiltinModule('node:vm').runInNewContext('gc');
      for (let round = 0; round < 3; round += 1) {
        collect();
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      return process.memoryUsage().arrayBuffers;
    })()`,
  );
  assert.ok(typeof value === 'number');
  return value;
}
