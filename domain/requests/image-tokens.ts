/**
 * How many input tokens an image costs, by the formulas that the model vendors publish. Used for holds, so every
 * formula here is an upper bound: where a vendor scales an image down first, the bound is what the scaled image can
 * reach at most, and an image whose size is unknown costs what the largest one can.
 *
 * Sources: OpenAI "Images and vision" (tiles of 512 px after fitting into 2048 px and a shorter side of 768 px; patches
 * of 32 px within a budget, times the model's factor), Anthropic "Vision" (width × height / 750, now patches of 28 px,
 * within 1,568 or 4,784 tokens), Google "Image understanding" and "Media resolution" (258 tokens per crop; 1,120 per
 * image on Gemini 3), xAI "Image understanding" (256 tokens per tile of 448 px, six tiles and the whole), Qwen-VL model
 * cards (one token per 28 × 28 px, 16,384 at most).
 */

export interface ImageSize {
  readonly width: number;
  readonly height: number;
}

/**
 * The details that a client can ask for, most expensive last. `auto`, an unknown word and no word at all are read as
 * the most expensive.
 */
export const IMAGE_DETAILS = ['low', 'high', 'original'] as const;
export type ImageDetail = (typeof IMAGE_DETAILS)[number];

interface Formula {
  /** Tokens of an image of this size. */
  readonly of: (size: ImageSize, detail: ImageDetail) => number;
  /** The most that an image of any size can cost. */
  readonly max: (detail: ImageDetail) => number;
}

const TILE_PIXELS = 512;
/** 2 × 4 tiles cover the largest scaled image, 768 × 2048 px. */
const TILES_MAX = 8;

/** OpenAI's older models: a base for the image as a whole and as many tokens again for each tile. */
function tiles(base: number, perTile: number): Formula {
  return {
    of: (size, detail) => (detail === 'low' ? base : base + perTile * tilesOf(size)),
    max: (detail) => (detail === 'low' ? base : base + perTile * TILES_MAX),
  };
}

/**
 * The guide says that the shorter side becomes 768 px; it does not say whether small images grow, so both cases count.
 */
function tilesOf({ width, height }: ImageSize): number {
  const fitted = Math.min(1, 2048 / Math.max(width, height));
  const toShortSide = 768 / (Math.min(width, height) * fitted);
  const at = (scale: number): number =>
    Math.ceil((width * fitted * scale) / TILE_PIXELS) * Math.ceil((height * fitted * scale) / TILE_PIXELS);
  return Math.min(TILES_MAX, Math.max(at(Math.min(1, toShortSide)), at(toShortSide)));
}

interface Patches {
  readonly pixels: number;
  /** Tokens per patch, in hundredths. */
  readonly percent: number;
  readonly patchesMax: number;
  /** The budget with `detail: "low"`, on models where it makes a difference. */
  readonly lowMax?: number;
  /** The budget with `detail: "high"`, where it is smaller than that of the original. */
  readonly highMax?: number;
  /** Tokens that each image costs beside its patches. */
  readonly extra?: number;
}

function patches({ pixels, percent, patchesMax, lowMax, highMax, extra = 0 }: Patches): Formula {
  const budget = (detail: ImageDetail): number =>
    detail === 'low' ? (lowMax ?? patchesMax) : detail === 'high' ? (highMax ?? patchesMax) : patchesMax;
  const cost = (count: number): number => Math.ceil((count * percent) / 100) + extra;
  return {
    of: (size, detail) => {
      const count = Math.ceil(size.width / pixels) * Math.ceil(size.height / pixels);
      return cost(Math.min(count, budget(detail)));
    },
    max: (detail) => cost(budget(detail)),
  };
}

/** Patches, or the older width × height / 750 where that is more; each image costs a few tokens around it. */
function anthropic(tokensMax: number): Formula {
  const extra = 4;
  const perPatch = patches({ pixels: 28, percent: 100, patchesMax: tokensMax, extra });
  return {
    of: (size, detail) => {
      const byArea = Math.min(Math.ceil((size.width * size.height) / 750), tokensMax) + extra;
      return Math.max(perPatch.of(size, detail), byArea);
    },
    max: perPatch.max,
  };
}

const CROP_TOKENS = 258;
/** An image is scaled into 3072 × 3072 px; 12 × 2 crops of 256 px are the most that any shape then needs. */
const CROPS_MAX = 24;

/** Gemini up to 2.5. */
const CROPS: Formula = {
  of: ({ width, height }) => {
    if (width <= 384 && height <= 384) return CROP_TOKENS;
    const unit = Math.min(768, Math.max(256, Math.floor(Math.min(width, height) / 1.5)));
    return CROP_TOKENS * Math.min(CROPS_MAX, Math.ceil(width / unit) * Math.ceil(height / unit));
  },
  max: () => CROP_TOKENS * CROPS_MAX,
};

function fixed(tokens: number): Formula {
  return { of: () => tokens, max: () => tokens };
}

/** By the model, or the first of several, that the vendor's page names the formula for. */
const FORMULAS = {
  'gpt-4o': tiles(85, 170),
  'gpt-4o-mini': tiles(2833, 5667),
  'gpt-5': tiles(70, 140),
  o1: tiles(75, 150),
  'gpt-4.1-mini': patches({ pixels: 32, percent: 162, patchesMax: 1536 }),
  'gpt-4.1-nano': patches({ pixels: 32, percent: 246, patchesMax: 1536 }),
  'o4-mini': patches({ pixels: 32, percent: 172, patchesMax: 1536 }),
  'gpt-5.4': patches({ pixels: 32, percent: 120, patchesMax: 10_000, highMax: 2500, lowMax: 256 }),
  claude: anthropic(1600),
  'claude-high-resolution': anthropic(4784),
  'gemini-2': CROPS,
  'gemini-3': fixed(1120),
  grok: fixed(1792),
  'qwen-vl': patches({ pixels: 28, percent: 100, patchesMax: 16_384, extra: 2 }),
} as const satisfies Record<string, Formula>;

export type ImageFormula = keyof typeof FORMULAS;
export const IMAGE_FORMULAS = Object.keys(FORMULAS) as ImageFormula[];

/** How the images of a model are counted. Without a formula, by the most expensive one. */
export interface ImageTokens {
  readonly formula?: ImageFormula | undefined;
  /** No image of this model costs more, whatever the formula says. */
  readonly max?: number | undefined;
}

/** The most input tokens that an image can cost; `size` is null where it is not known. */
export function imageTokensMax(
  rule: ImageTokens | null,
  { size, detail }: { readonly size: ImageSize | null; readonly detail: ImageDetail },
): number {
  const formulas: readonly Formula[] = rule?.formula === undefined ? Object.values(FORMULAS) : [FORMULAS[rule.formula]];
  const tokens = formulas.map((formula) => (size === null ? formula.max(detail) : formula.of(size, detail)));
  return Math.min(Math.max(...tokens), rule?.max ?? Infinity);
}
