/**
 * A PostgreSQL that is too old, as far as a client sees it: it lets anybody in, tells its version, and fails every
 * other statement as an old server fails one that it does not know. Speaks the simple and the extended protocol of
 * version 3.
 */
import { once } from 'node:events';
import { createServer, type AddressInfo, type Socket } from 'node:net';

export interface OldPostgres {
  /** A login to it. */
  readonly url: string;
  /** The statements that it was given. */
  readonly statements: readonly string[];
  close(): Promise<void>;
}

const SSL_REQUEST = 80_877_103;

/** `version` as in `server_version`. */
export async function startOldPostgres(version = '16.4'): Promise<OldPostgres> {
  const statements: string[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => undefined);
    serve(socket, version, statements);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    url: `postgres://holdfast:secret@127.0.0.1:${port}/holdfast`,
    statements,
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function serve(socket: Socket, version: string, statements: string[]): void {
  let received = Buffer.alloc(0);
  let isStarted = false;
  socket.on('data', (chunk) => {
    received = Buffer.concat([received, chunk]);
    for (;;) {
      const header = isStarted ? 5 : 4;
      if (received.length < header) return;
      const length = received.readInt32BE(header - 4) + header - 4;
      if (received.length < length) return;
      const body = received.subarray(header, length);
      const type = isStarted ? String.fromCharCode(received[0]!) : '';
      received = received.subarray(length);
      if (!isStarted) {
        if (body.readInt32BE(0) === SSL_REQUEST) socket.write('N');
        else {
          isStarted = true;
          socket.write(Buffer.concat([message('R', int32(0)), parameter('server_version', version), READY]));
        }
      } else if (type === 'Q') {
        const statement = textAt(body, 0);
        statements.push(statement);
        socket.write(Buffer.concat([answerTo(statement, version), READY]));
      } else if (type === 'P') {
        const name = textAt(body, 0);
        const statement = textAt(body, name.length + 1);
        statements.push(statement);
        socket.write(UNKNOWN_FUNCTION);
      } else if (type === 'S') socket.write(READY);
      else if (type === 'X') socket.end();
    }
  });
}

function answerTo(statement: string, version: string): Buffer {
  if (!statement.includes('server_version_num')) return UNKNOWN_FUNCTION;
  const [major = '0', minor = '0'] = version.split('.');
  const number = String(Number(major) * 10_000 + Number.parseInt(minor, 10));
  return Buffer.concat([
    message('T', int16(2), ...['version', 'number'].map(column)),
    message('D', int16(2), ...[version, number].map(value)),
    message('C', cString('SELECT 1')),
  ]);
}

const int16 = (n: number): Buffer => Buffer.from([(n >> 8) & 0xff, n & 0xff]);
function int32(n: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(n);
  return bytes;
}
const cString = (text: string): Buffer => Buffer.from(`${text}\0`);
const value = (text: string): Buffer => Buffer.concat([int32(Buffer.byteLength(text)), Buffer.from(text)]);
/** Of type text (25). */
const column = (name: string): Buffer =>
  Buffer.concat([cString(name), int32(0), int16(0), int32(25), int16(-1), int32(-1), int16(0)]);

function message(type: string, ...parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  return Buffer.concat([Buffer.from(type), int32(body.length + 4), body]);
}

const parameter = (name: string, text: string): Buffer => message('S', cString(name), cString(text));
const READY = message('Z', Buffer.from('I'));
const UNKNOWN_FUNCTION = message(
  'E',
  cString('SERROR'),
  cString('C42883'),
  cString('Mfunction uuidv7() does not exist'),
  Buffer.from('\0'),
);

const textAt = (body: Buffer, from: number): string => body.toString('utf8', from, body.indexOf(0, from));
