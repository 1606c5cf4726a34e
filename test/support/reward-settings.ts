/** Reward settings as a process reads them from its environment. */
import { z } from 'zod';
import { parseEnvironment } from '../../runtime/environment.ts';
import { REWARD_SCHEMA, rewardSettings, type RewardSettings } from '../../providers/reward-settings.ts';

const SCHEMA = z.object(REWARD_SCHEMA);

export function rewardSettingsOf(environment: Readonly<Record<string, string>> = {}): RewardSettings {
  return rewardSettings(parseEnvironment(environment, SCHEMA));
}
