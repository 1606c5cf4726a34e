/**
 * Runs of commissions: takes, posts, writes the result file, and recomputes it. A run's state is in PostgreSQL, so each
 * activity can be repeated and goes on where the last attempt ended. The file goes by in parts; it is never in memory
 * whole.
 */
import { createHash, type Hash } from 'node:crypto';
import type pg from 'pg';
import type { Logger } from 'pino';
import { ApplicationFailure } from '@temporalio/common';
import { assert } from '../../domain/assert.ts';
import {
  COMMISSION_FILE_HEADER,
  commissionFileLine,
  commissionManifest,
  CommissionSum,
  recomputeAccrual,
  type CommissionRule,
} from '../../domain/commissions/commission.ts';
import { formatUsd, picoUsd, type PicoUsd } from '../../domain/money.ts';
import { ledgerRefusal } from '../../db/shared/client.ts';
import {
  beginCommissionRun,
  commissionLines,
  commissionPart,
  commissionRules,
  commissionRunOf,
  countTakenCommissions,
  eachCommissionCandidate,
  finishCommissionCheck,
  finishCommissionRun,
  postCommissions,
  saveCommissionPart,
  type CommissionFile,
  type CommissionRun,
  type ListedCommission,
} from '../../db/commissions/commission-runs.ts';
import type { CommissionCheckResult, CommissionProgress } from '../../contract/index.ts';
import { beating } from '../shared/heartbeat.ts';

export interface CommissionActivities {
  /** Takes every accrual that belongs to the period's run, once. Refused as `period_not_ended` where that is so. */
  beginCommissionRun(input: { period: string; at: string }): Promise<CommissionProgress>;
  /** Lists and posts the next accruals. */
  postCommissions(input: { period: string; limit: number }): Promise<CommissionProgress>;
  /** Writes the result file and its manifest and closes the run. */
  writeCommissionFile(input: { period: string; at: string }): Promise<CommissionProgress>;
  /** The accruals that a run would take now, with its file; changes nothing. */
  dryRunCommissions(input: { period: string; n: number; at: string }): Promise<CommissionCheckResult>;
  /** Recomputes the file of a past run from its list, rates and rule, and names the differences. */
  replayCommissions(input: { period: string; n: number; at: string }): Promise<CommissionCheckResult>;
}

/** About a megabyte of the file: few round trips, little memory. The parts of a replay must be those of the run. */
const LINES_PER_PART = 5000;
/** More differences say nothing new. */
const DIFFERENCES_MAX = 20;

export function createCommissionActivities({ pool, logger }: { pool: pg.Pool; logger: Logger }): CommissionActivities {
  return {
    beginCommissionRun: ({ period, at }) =>
      beating(async () => {
        try {
          const run = await beginCommissionRun(pool, { period, at: new Date(at) });
          logger.info({ period, accruals: run.accruals, total: formatUsd(run.total) }, 'commission run begun');
          return progressOf(run);
        } catch (error) {
          const refusal = ledgerRefusal(error);
          if (refusal === null) throw error;
          throw ApplicationFailure.nonRetryable(`run of ${period} refused: ${refusal.code}`, refusal.code);
        }
      }),

    postCommissions: ({ period, limit }) =>
      beating(async () => progressOf(await postCommissions(pool, { period, limit }))),

    writeCommissionFile: ({ period, at }) => beating(() => writeFile(period, new Date(at))),
    dryRunCommissions: ({ period, n, at }) => beating(() => dryRun(period, n, new Date(at))),

    replayCommissions: ({ period, n, at }) =>
      beating(async () => {
        const result = await replay(await required(period));
        await finishCommissionCheck(pool, { kind: 'replay', period, n, at: new Date(at), result, manifest: null });
        const { identical, differences } = result;
        if (identical === true) logger.info({ period, n }, 'commission replay identical');
        else logger.error({ period, n, differences }, 'commission replay differs');
        return result;
      }),
  };

  async function writeFile(period: string, at: Date): Promise<CommissionProgress> {
    const run = await required(period);
    if (run.state === 'done') return progressOf(run);
    const file = new FileWriter(pool, { period, dryRun: 0 });
    await eachListed(period, (lines) => file.add(lines));
    const { manifest, csvSha256 } = file.end(await commissionRules(pool));
    assert(file.sum.totals.accruals === run.accruals, 'the file lists what the run has taken');
    const done = await finishCommissionRun(pool, { period, at, csvSha256, manifest });
    logger.info({ period, accruals: done.accruals, csv_sha256: done.csvSha256 }, 'commission run done');
    return progressOf(done);
  }

  async function dryRun(period: string, n: number, at: Date): Promise<CommissionCheckResult> {
    const file = new FileWriter(pool, { period, dryRun: n });
    await eachCommissionCandidate(pool, { period, limit: LINES_PER_PART }, (lines) => file.add(lines));
    const { manifest, csvSha256 } = file.end(await commissionRules(pool));
    const result: CommissionCheckResult = {
      kind: 'dry_run',
      period,
      ...figuresOf(file.sum),
      csvSha256,
      identical: null,
      differences: [],
    };
    await finishCommissionCheck(pool, { kind: 'dry_run', period, n, at, result, manifest });
    return result;
  }

  async function required(period: string): Promise<CommissionRun> {
    const run = await commissionRunOf(pool, period);
    if (run === null) throw ApplicationFailure.nonRetryable(`there is no run of ${period}`, 'not_found');
    return run;
  }

  async function eachListed(
    period: string,
    onPage: (lines: readonly ListedCommission[]) => Promise<void>,
  ): Promise<void> {
    for (let after = 0; ;) {
      const lines = await commissionLines(pool, { period, after, limit: LINES_PER_PART });
      await onPage(lines);
      if (lines.length < LINES_PER_PART) return;
      after = lines.at(-1)!.n;
    }
  }

  /**
   * Recomputes a run's amounts from what they follow from, and compares them, the file and the manifest with what is
   * kept.
   */
  async function replay(run: CommissionRun): Promise<CommissionCheckResult> {
    const { period } = run;
    const found = new Differences();
    const file = new FileBuilder();
    const stored = createHash('sha256');
    let part = 0;
    await eachListed(period, async (lines) => {
      for (const line of lines) found.inLine(line);
      const made = file.part(lines, recomputeAccrual);
      const kept = await commissionPart(pool, { period, dryRun: 0 }, part++);
      if (kept !== null) stored.update(kept);
      found.inPart(made, kept?.toString('utf8') ?? '', part);
    });
    if ((await commissionPart(pool, { period, dryRun: 0 }, part)) !== null) {
      found.add(`the file has a part ${part + 1} that the list does not make`);
    }
    const taken = await countTakenCommissions(pool, period);
    const { accruals } = file.sum.totals;
    if (taken !== accruals) found.add(`the run has taken ${taken} accruals and lists ${accruals}`);
    const { manifest, csvSha256 } = file.manifest({ period, isDryRun: false }, await commissionRules(pool));
    if (stored.digest('hex') !== run.csvSha256) found.add('the stored file does not have the SHA-256 of its run');
    if (csvSha256 !== run.csvSha256) {
      found.add(`the recomputed file has SHA-256 ${csvSha256}, the run's is ${run.csvSha256 ?? 'missing'}`);
    }
    if (manifest !== run.manifest) found.add(firstDifference('manifest', run.manifest ?? '', manifest));
    return {
      kind: 'replay',
      period,
      ...figuresOf(file.sum),
      csvSha256,
      identical: found.list.length === 0,
      differences: found.list,
    };
  }
}

function progressOf(run: CommissionRun): CommissionProgress {
  return {
    period: run.period,
    state: run.state,
    accruals: run.accruals,
    posted: run.posted,
    totalUsd: formatUsd(run.total),
    csvSha256: run.csvSha256,
  };
}

function figuresOf({ totals }: CommissionSum): Pick<CommissionCheckResult, 'accruals' | 'totalUsd'> {
  return { accruals: totals.accruals, totalUsd: formatUsd(picoUsd(totals.credited - totals.debited)) };
}

/** Makes the bytes of a result file, part by part, and what its manifest says of them. */
class FileBuilder {
  readonly sum = new CommissionSum();
  readonly #csv: Hash = createHash('sha256');
  readonly #list: Hash = createHash('sha256');
  readonly #ruleVersions = new Set<number>();
  #bytes = 0;
  #first: string | null = null;
  #last: string | null = null;
  #begun = false;

  part(lines: readonly ListedCommission[], amountOf: (line: ListedCommission) => PicoUsd): string {
    let text = this.#begun ? '' : COMMISSION_FILE_HEADER;
    this.#begun = true;
    for (const line of lines) {
      const amount = amountOf(line);
      text += commissionFileLine(line, amount);
      this.sum.add(line, amount);
      this.#list.update(`${line.accrualId}\n`);
      this.#ruleVersions.add(line.ruleVersion);
      this.#first ??= line.accrualId;
      this.#last = line.accrualId;
    }
    this.#csv.update(text);
    this.#bytes += Buffer.byteLength(text);
    return text;
  }

  /** Ends the file. */
  manifest(
    { period, isDryRun }: { readonly period: string; readonly isDryRun: boolean },
    rules: readonly CommissionRule[],
  ): { manifest: string; csvSha256: string } {
    const csvSha256 = this.#csv.digest('hex');
    const manifest = commissionManifest({
      period,
      isDryRun,
      totals: this.sum.totals,
      rules: rules.filter(({ version }) => this.#ruleVersions.has(version)),
      list: { sha256: this.#list.digest('hex'), first: this.#first, last: this.#last },
      csv: { sha256: csvSha256, bytes: this.#bytes },
    });
    return { manifest, csvSha256 };
  }
}

/** A result file that is stored as it is made. */
class FileWriter {
  readonly #pool: pg.Pool;
  readonly #file: CommissionFile;
  readonly #builder = new FileBuilder();
  #parts = 0;

  constructor(pool: pg.Pool, file: CommissionFile) {
    this.#pool = pool;
    this.#file = file;
  }

  get sum(): CommissionSum {
    return this.#builder.sum;
  }

  async add(lines: readonly ListedCommission[]): Promise<void> {
    const text = this.#builder.part(lines, ({ amount }) => amount);
    await saveCommissionPart(this.#pool, this.#file, this.#parts++, Buffer.from(text));
  }

  end(rules: readonly CommissionRule[]): { manifest: string; csvSha256: string } {
    const { period, dryRun } = this.#file;
    return this.#builder.manifest({ period, isDryRun: dryRun > 0 }, rules);
  }
}

/** The results of a replay, by name. */
class Differences {
  readonly list: string[] = [];

  add(difference: string): void {
    if (this.list.length < DIFFERENCES_MAX) this.list.push(difference);
  }

  /** The checks within one line of the list. */
  inLine(line: ListedCommission): void {
    const { n, accrualId, amount, base, paymentCredited, listed, posted } = line;
    const of = `line ${n}, ${accrualId}`;
    const follows = recomputeAccrual(line);
    const says = (value: PicoUsd | null): string => (value === null ? 'nothing' : formatUsd(value));
    if (amount !== follows) this.add(`${of}: the accrual says ${says(amount)}, by its rate it is ${says(follows)}`);
    if (listed !== amount) this.add(`${of}: the list says ${says(listed)}, the accrual ${says(amount)}`);
    if (amount !== 0n && posted !== amount) {
      this.add(`${of}: ${says(posted)} was posted, the accrual says ${says(amount)}`);
    }
    if (base !== paymentCredited) {
      this.add(`${of}: the accrual is on ${says(base)}, the payment was credited with ${says(paymentCredited)}`);
    }
  }

  inPart(made: string, kept: string, part: number): void {
    if (made !== kept) this.add(firstDifference(`file, part ${part}`, kept, made));
  }
}

function firstDifference(what: string, kept: string, made: string): string {
  const storedLines = kept.split('\n');
  const madeLines = made.split('\n');
  const at = madeLines.findIndex((line, index) => line !== storedLines[index]);
  const index = at === -1 ? madeLines.length : at;
  const shown = (line: string | undefined): string => (line === undefined ? 'nothing' : `"${line.trim()}"`);
  return `${what}, line ${index + 1}: stored is ${shown(storedLines[index])}, recomputed is ${shown(madeLines[index])}`;
}
