/**
 * The page on the upstream twin names everything that it can be told: a knob that is nowhere written is used by nobody.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';

import { DEFAULT_CONFIG } from '../../../twins/upstream/config.ts';
import { DEFAULT_FRAMING } from '../../../twins/upstream/framing.ts';
import { FINISH_PLACES } from '../../../twins/upstream/finish.ts';
import { FAULT_TYPES } from '../../../twins/upstream/fault-input.ts';
import {
  ERROR_SHAPE_NAMES,
  OUTPUT_FORM_NAMES,
  startUpstreamTwin,
  USAGE_SHAPE_NAMES,
  type ConfigInput,
  type FaultRule,
} from '../../../twins/upstream/twin.ts';
import { USAGE_PLACES } from '../../../twins/upstream/usage/shape.ts';

describe('page on the upstream twin', () => {
  const page = readFileSync(resolve(import.meta.dirname, '../../../docs/upstream-twin.md'), 'utf8');

  for (const [what, names] of [
    ['knobs', Object.keys(DEFAULT_CONFIG)],
    ['ways of framing', Object.keys(DEFAULT_FRAMING)],
    ['faults', FAULT_TYPES],
    ['output forms', OUTPUT_FORM_NAMES],
    ['usage shapes', USAGE_SHAPE_NAMES],
    ['usage places', USAGE_PLACES],
    ['finish places', FINISH_PLACES],
    ['error shapes', ERROR_SHAPE_NAMES],
  ] as const) {
    it(`names all ${what}`, () => {
      assert.deepEqual(
        names.filter((name) => !new RegExp(`\\b${name}\\b`).test(page)),
        [],
      );
    });
  }

  it('shows an example and knobs that the twin takes', async () => {
    const twin = await startUpstreamTwin();
    try {
      const example = /faults" -d '(\{.*?\})'\n/s.exec(page)?.[1] ?? '';
      twin.faults.add(JSON.parse(example) as FaultRule);
      const knobs = [...page.matchAll(/`([a-z]+: \{[a-z_]+: [^`]*\})`/g)];
      assert.ok(knobs.length > 10, `${knobs.length}`);
      for (const [, knob = ''] of knobs) {
        twin.configure(JSON.parse(`{${knob.replaceAll(/(^|[{ ])([a-z_]+):/g, '$1"$2":')}}`) as ConfigInput);
      }
    } finally {
      await twin.close();
    }
  });
});
