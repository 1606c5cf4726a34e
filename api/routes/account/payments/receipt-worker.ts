/** The thread of receipt-renderer.ts: draws the receipt it was started with, hands its bytes over and ends. */
import { parentPort, workerData } from 'node:worker_threads';
import { drawReceipt, type Receipt } from './receipt-pdf.ts';

parentPort?.postMessage(await drawReceipt(workerData as Receipt));
