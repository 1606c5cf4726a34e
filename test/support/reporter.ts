/**
 * mocha's `spec` reporter that also leaves counts and failures in the file named by `HOLDFAST_TEST_COUNTS`, so that
 * test/run.ts adds numbers up instead of reading them out of coloured text, and can name at its end what failed.
 */
import { writeFileSync } from 'node:fs';
import Mocha from 'mocha';

export default class SpecWithCounts extends Mocha.reporters.Spec {
  constructor(runner: Mocha.Runner, options: Mocha.MochaOptions) {
    super(runner, options);
    const file = process.env['HOLDFAST_TEST_COUNTS'];
    runner.once('end', () => {
      const { passes, failures, pending } = this.stats;
      const failed = this.failures.map((test) => `${test.fullTitle()}: ${firstLine(test.err?.message)}`);
      if (file !== undefined)
        writeFileSync(file, JSON.stringify({ passed: passes, failed: failures, skipped: pending, failures: failed }));
    });
  }
}

function firstLine(text = 'no message'): string {
  return text.split('\n', 1)[0] ?? text;
}
