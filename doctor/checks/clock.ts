/**
 * This machine's clock against another one: signatures of events carry the sender's time and are refused when it is far
 * from ours.
 */
import { fault, ok, warning, type Finding } from '../check.ts';

/** How far apart two clocks may be until signed events are refused (api/routes/webhooks). */
const TOLERANCE_SECONDS = 300;
const WORTH_A_WORD_SECONDS = 30;

/** `aheadSeconds`: how far this machine is ahead; null where the other side does not tell. */
export function clockFinding(aheadSeconds: number | null, other: string): Finding {
  if (aheadSeconds === null) return ok(`${other} does not send its time`);
  const apart = Math.abs(aheadSeconds);
  if (apart < WORTH_A_WORD_SECONDS) return ok(`${apart} s from ${other}'s`);
  const message = `this machine's clock is ${apart} s ${aheadSeconds > 0 ? 'ahead of' : 'behind'} ${other}'s`;
  const cure = 'set the clock by NTP (timedatectl set-ntp true) on every machine that runs the api';
  return apart > TOLERANCE_SECONDS
    ? fault(`${message}: its events are refused, ${TOLERANCE_SECONDS} s are allowed`, cure)
    : warning(`${message}: from ${TOLERANCE_SECONDS} s on its events are refused`, cure);
}
