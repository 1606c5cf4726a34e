/** Numbers and times in the forms in which providers send them. */
import assert from 'node:assert/strict';
import { timeIn, wholeNumberIn } from '../../../domain/sent-values.ts';

describe('values as the other side sends them', () => {
  for (const [value, number] of [
    [1050, 1050],
    ['1050', 1050],
    ['-500', -500],
    ['0', 0],
    [10.5, null],
    ['10.50', null],
    ['', null],
    [' 5', null],
    ['9'.repeat(16), null],
    [2 ** 60, null],
    [null, null],
    [true, null],
  ] as const) {
    it(`${JSON.stringify(value)} is ${number ?? 'no whole number'}`, () => assert.equal(wholeNumberIn(value), number));
  }

  it('a time is milliseconds, as a number or a text, or a date', () => {
    const time = new Date('2026-11-24T10:00:00.000Z');
    for (const sent of [time.getTime(), String(time.getTime()), time.toISOString(), time]) {
      assert.deepEqual(timeIn(sent), time);
    }
    for (const none of [null, undefined, '', 'soon', Number.NaN, {}]) assert.equal(timeIn(none), null);
  });
});
