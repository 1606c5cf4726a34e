/**
 * Loopback ports. Owns how a port is chosen and remembered; what listens on it belongs to the parts.
 *
 * A part keeps its port over restarts (it is stored in the data dir), so addresses that clients and the other
 * parts hold stay good. Only where another program has taken the port meanwhile does a part move to a new one.
 */
import { createServer, type AddressInfo } from 'node:net';
import { readJsonFile, writeFileAtomic } from './files.ts';

const LOOPBACK = '127.0.0.1';

/** A port that is free on loopback now. Nothing reserves it: bind it soon. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ port: 0, host: LOOPBACK }, resolve);
  });
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

export async function portIsFree(port: number, host: string = LOOPBACK): Promise<boolean> {
  const reservation = await reservePort(port, host);
  await reservation?.release();
  return reservation !== null;
}

/** The first free port from `start` on; for ports that people type. Throws when a hundred in a row are taken. */
export async function nextFreePort(start: number, host: string = LOOPBACK): Promise<number> {
  const end = Math.min(start + 100, 65_536);
  for (let port = start; port < end; port += 1) {
    if (await portIsFree(port, host)) return port;
  }
  throw new Error(`no free port on ${host} between ${start} and ${end - 1}`);
}

export interface Reservation {
  readonly port: number;
  /** Frees the port; its user binds it at once. */
  release(): Promise<void>;
}

/** Occupies the port so that another start does not choose it too; null when it is taken. */
export async function reservePort(port: number, host: string = LOOPBACK): Promise<Reservation | null> {
  const server = createServer((socket) => socket.destroy());
  server.unref();
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ port, host, exclusive: true }, resolve);
    });
  } catch (error) {
    if (isTaken(error)) return null;
    throw error;
  }
  return { port, release: () => new Promise((resolve) => server.close(() => resolve())) };
}

/** The ports of one data dir by part name, kept in a file. */
export class PortBook {
  readonly #file: string;
  readonly #ports: Map<string, number>;

  constructor(file: string) {
    this.#file = file;
    this.#ports = readPorts(file);
  }

  /** The part's port of the last run if it is still free, else a new one from `choose`. */
  async portFor(part: string, choose: () => Promise<number> = freePort, host: string = LOOPBACK): Promise<number> {
    const known = this.#ports.get(part);
    if (known !== undefined && (await portIsFree(known, host))) return known;
    const port = await choose();
    this.#ports.set(part, port);
    writeFileAtomic(this.#file, `${JSON.stringify(Object.fromEntries(this.#ports), null, 2)}\n`);
    return port;
  }
}

function readPorts(file: string): Map<string, number> {
  const ports = new Map<string, number>();
  for (const [part, port] of Object.entries(readJsonFile(file) ?? {})) {
    if (typeof port === 'number') ports.set(part, port);
  }
  return ports;
}

function isTaken(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'EADDRINUSE' || code === 'EACCES';
}
