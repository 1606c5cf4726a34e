/**
 * How rented nodes refuse a range of blocks that is too long for them, each with where it was seen. `LIMIT` stands for
 * the vendor's own limit, which differs by plan. Read by the tests of the reader, of whole top-ups and of the storm.
 */
import type { Refusal } from '../../twins/chain/twin.ts';

export interface VendorRefusal {
  /** The vendor that refuses so, and the source. */
  readonly who: string;
  readonly form: Omit<Refusal, 'overBlocks'>;
  /** True where the words say how many blocks would do. */
  readonly suggests: boolean;
  /** True where to find that out takes pauses, or a large answer. */
  readonly isSlow?: boolean;
}

/** Blocks that every vendor of the table answers for. */
export const LIMIT = 5;

const error = (code: number, message: string, data?: unknown): Pick<Refusal, 'error'> => ({
  error: { code, message, ...(data !== undefined && { data }) },
});
const page = (title: string): string =>
  `<html>\n<head><title>${title}</title></head>\n<body><center><h1>${title}</h1></center></body>\n</html>`;

export const VENDOR_REFUSALS: readonly VendorRefusal[] = [
  {
    who: 'Alchemy, free plan: HTTP 400 (boundless-xyz/boundless#838)',
    form: {
      status: 400,
      ...error(
        -32600,
        `You can make eth_getLogs requests with up to a ${LIMIT} block range. Based on your parameters, this block range should work: [{from}, {fits}]`,
      ),
    },
    suggests: true,
  },
  {
    who: 'Alchemy: too many logs (documentation of eth_getLogs; ethers-io/ethers.js#4703)',
    form: error(
      -32602,
      'Log response size exceeded. You can make eth_getLogs requests with up to a 2K block range and no limit on the response size, or you can request any block range with a cap of 10K logs in the response. Based on your parameters and the response size limit, this block range should work: [{from}, {fits}]',
    ),
    suggests: true,
  },
  {
    who: 'Infura: too many logs, with the range in the data (ethers-io/ethers.js#4703)',
    form: error(-32005, 'query returned more than 10000 results. Try with this block range [{from}, {fits}].', {
      ...{ from: '{from}', limit: 10000, to: '{fits}' },
    }),
    suggests: true,
  },
  {
    who: 'Infura: too many logs, without a range (documentation of eth_getLogs)',
    form: error(-32005, 'query returned more than 10000 results'),
    suggests: false,
  },
  {
    who: 'Infura: too long a query (documentation of eth_getLogs)',
    form: error(-32005, 'query timeout exceeded'),
    suggests: false,
  },
  {
    who: 'Infura, MEV Blocker: the undocumented limit of blocks (INFURA/infura#237)',
    form: error(-32602, `range 1000000 exceeds limit of ${LIMIT}`),
    suggests: true,
  },
  {
    who: 'QuickNode: HTTP 413 (OffchainLabs/arbitrum-sdk#609, palomachain/paloma#1165)',
    form: { status: 413, ...error(-32614, `eth_getLogs is limited to a ${LIMIT} range`) },
    suggests: true,
  },
  {
    who: 'Ankr (ponder-sh/ponder, tests of its getLogs errors)',
    form: error(-32600, 'block range is too wide'),
    suggests: false,
  },
  {
    who: 'Tenderly: only the data says why (bobanetwork/boba_legacy#827)',
    form: error(-32602, 'invalid params', {
      error_id: '4ed94073-0317-4648-a167-107fba5f44b3',
      payload: `range 9009594 is bigger than range limit ${LIMIT}`,
    }),
    suggests: true,
  },
  {
    who: 'reth: a range in decimals (reth, paradigmxyz/reth)',
    form: error(-32602, 'query exceeds max results 20000, retry with the range {from_number}-{fits_number}'),
    suggests: true,
  },
  {
    who: 'reth: the range that it suggests is the one that was asked for (base/base#2421)',
    form: error(-32602, 'query exceeds max results 20000, retry with the range {from_number}-{to_number}'),
    suggests: false,
  },
  {
    who: 'Morph (enviodev/hyperindex#605)',
    form: error(-32000, `block range is larger than max block range, block range = 5120, max block range = ${LIMIT}`),
    suggests: true,
  },
  {
    who: 'Scroll (scroll-tech/go-ethereum#529)',
    form: error(-32000, 'block range is bigger than maxBlockRange'),
    suggests: false,
  },
  {
    who: 'Arbitrum’s public node (ponder-sh/ponder)',
    form: error(-32000, 'logs matched by query exceeds limit of 10000'),
    suggests: false,
  },
  {
    who: 'Optimism’s and Base’s balancer (ponder-sh/ponder)',
    form: error(-32020, 'backend response too large'),
    suggests: false,
  },
  {
    who: 'Base’s balancer with nobody behind it: HTTP 503 (ponder-sh/ponder)',
    form: { status: 503, ...error(-32011, 'no backend is currently healthy to serve traffic') },
    suggests: false,
  },
  {
    who: 'Public Node (ponder-sh/ponder)',
    form: error(-32701, `exceed maximum block range: ${LIMIT}`),
    suggests: true,
  },
  {
    who: 'Chainstack (ponder-sh/ponder)',
    form: error(-32602, 'Block range limit exceeded. See more details at https://docs.example'),
    suggests: false,
  },
  {
    who: 'Coinbase (ponder-sh/ponder)',
    form: error(-32602, `please limit the query to at most ${LIMIT} blocks`),
    suggests: true,
  },
  {
    who: 'Avalanche (ponder-sh/ponder)',
    form: error(-32000, `requested too many blocks from {from_number} to {to_number}, maximum is set to ${LIMIT}`),
    suggests: true,
  },
  {
    who: 'Merkle: a number in thousands, longer than what was asked for (ponder-sh/ponder)',
    form: error(-32602, 'eth_getLogs range is too large, max is 10k blocks'),
    suggests: false,
  },
  {
    who: 'a gateway before the node: HTTP 400 without a word',
    form: { status: 400 },
    suggests: false,
  },
  {
    who: 'nginx before the node: HTTP 413 and a page',
    form: { status: 413, text: page('413 Request Entity Too Large') },
    suggests: false,
  },
  {
    who: 'a limit of requests: HTTP 429 (Alchemy, documentation of throughput)',
    form: {
      status: 429,
      ...error(
        429,
        'Your app has exceeded its compute units per second capacity. If you have retries enabled, you can safely ignore this message.',
      ),
    },
    suggests: false,
    isSlow: true,
  },
  {
    who: 'a limit of requests inside a 200 (Infura)',
    form: error(-32005, 'daily request count exceeded, request rate limited'),
    suggests: false,
    isSlow: true,
  },
  {
    who: 'HTTP 500 and words',
    form: { status: 500, text: 'Internal Server Error' },
    suggests: false,
  },
  {
    who: 'HTTP 502 and a page',
    form: { status: 502, text: page('502 Bad Gateway') },
    suggests: false,
  },
  {
    who: 'HTTP 503 and a page',
    form: { status: 503, text: page('503 Service Temporarily Unavailable') },
    suggests: false,
  },
  {
    who: 'HTTP 504 and a page',
    form: { status: 504, text: page('504 Gateway Time-out') },
    suggests: false,
  },
  {
    who: 'HTTP 200 and the words of the node, without JSON',
    form: { text: 'query returned more than 10000 results' },
    suggests: false,
  },
  {
    who: 'HTTP 200 and a page',
    form: { text: page('Checking your browser') },
    suggests: false,
  },
  {
    who: 'HTTP 200 and nothing',
    form: { text: '' },
    suggests: false,
  },
  {
    who: 'JSON that is no answer',
    form: { text: '{"message":"Too Many Requests"}' },
    suggests: false,
    isSlow: true,
  },
  {
    who: 'JSON whose error is a text',
    form: { text: '{"jsonrpc":"2.0","id":1,"error":"block range is too wide"}' },
    suggests: false,
  },
  {
    who: 'a list, as to a batch',
    form: { text: '[{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"block range too large"}}]' },
    suggests: false,
  },
  {
    who: 'null as the result',
    form: { nullResult: true },
    suggests: false,
  },
  {
    who: 'half an answer',
    form: { truncated: true },
    suggests: false,
  },
  {
    who: 'more than can be taken in',
    form: { padBytes: 40_000_000 },
    suggests: false,
    isSlow: true,
  },
  {
    who: 'a connection that is cut',
    form: { reset: true },
    suggests: false,
  },
];
