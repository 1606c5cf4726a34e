/** The tokens of an image, against the examples that the vendors publish and what others have measured. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import {
  IMAGE_DETAILS,
  IMAGE_FORMULAS,
  imageTokensMax,
  type ImageDetail,
  type ImageFormula,
} from '../../../../domain/requests/image-tokens.ts';

/** Formula | detail | size | tokens, by hand from the vendor's page. `?` is an image whose size is not known. */
const TABLE = `
gpt-4o                 | high     | 1024x1024  | 765    | guide: four tiles
gpt-4o                 | high     | 2048x4096  | 1105   | guide: scaled to 768 × 1536, six tiles
gpt-4o                 | high     | 4096x8192  | 1105   | guide: the longer side is 2048 at most
gpt-4o                 | low      | 4096x8192  | 85     | guide: the same for every size
gpt-4o                 | original | 1024x1024  | 765    | read as high
gpt-4o                 | high     | 3000x768   | 1445   | 2048 × 524: four tiles by two
gpt-4o                 | high     | 4096x1536  | 1445   | 2048 × 768: four tiles by two
gpt-4o                 | high     | 1x1        | 765    | made larger, as the guide may be read
gpt-4o                 | high     | ?          | 1445   | eight tiles are the most
gpt-4o                 | low      | ?          | 85     |
gpt-4o-mini            | high     | 1024x1024  | 25501  | 2833 and 5667 for each of four tiles
gpt-4o-mini            | low      | ?          | 2833   |
gpt-4o-mini            | high     | ?          | 48169  |
gpt-5                  | high     | 1024x1024  | 630    | 70 and 140 for each of four tiles
o1                     | high     | 1024x1024  | 675    | 75 and 150 for each of four tiles
gpt-4.1-mini           | high     | 1024x1024  | 1659   | guide: 1024 patches times 1.62
gpt-4.1-mini           | high     | 1800x2400  | 2489   | more than 1536 patches are scaled to fit them
gpt-4.1-mini           | low      | 1024x1024  | 1659   | detail makes no difference
gpt-4.1-nano           | high     | 1024x1024  | 2520   | times 2.46
o4-mini                | high     | 1024x1024  | 1762   | times 1.72
gpt-5.4                | original | 1024x1024  | 1229   | measured: 1229
gpt-5.4                | original | 3840x2160  | 9792   | measured: 9792
gpt-5.4                | original | 4032x3024  | 12000  | measured: 11868, within 10,000 patches
gpt-5.4                | high     | 3840x2160  | 3000   | measured: 2931, within 2500 patches
gpt-5.4                | low      | 3840x2160  | 308    | within 512 × 512 px
claude                 | high     | 200x200    | 68     | page: 54 by area; 64 patches
claude                 | high     | 1000x1000  | 1338   | page: 1334 by area; 1296 patches
claude                 | high     | 1092x1092  | 1594   | page: 1590 by area; 1521 patches
claude                 | low      | 4032x3024  | 1604   | page: 1568 at most, 1600 by area
claude-high-resolution | high     | 1928x1928  | 4788   | page: 4784 at most
gemini-2               | high     | 384x384    | 258    | page: small images
gemini-2               | high     | 385x384    | 1032   | four crops of 256 px
gemini-2               | high     | 960x540    | 1548   | page: a crop unit of 360, six crops
gemini-2               | high     | 3072x3072  | 4128   | sixteen crops of 768 px
gemini-2               | high     | ?          | 6192   |
gemini-3               | high     | ?          | 1120   | page: 1120 for each
grok                   | high     | ?          | 1792   | page: six tiles and the whole
qwen-vl                | high     | 1288x728   | 1198   | 46 × 26 patches of 28 px and two marks
qwen-vl                | high     | 9999x9999  | 16386  | card: 16,384 at most
`;

const rows = TABLE.trim()
  .split('\n')
  .map((line) => line.split('|').map((cell) => cell.trim()));

describe('image tokens', () => {
  for (const [formula, detail, size, tokens, why] of rows) {
    it(`${formula}: ${size} at ${detail} detail is ${tokens} (${why})`, () => {
      const [width, height] = size!.split('x').map(Number);
      const image = {
        size: size === '?' ? null : { width: width!, height: height! },
        detail: detail as ImageDetail,
      };
      assert.equal(imageTokensMax({ formula: formula as ImageFormula }, image), Number(tokens));
    });
  }

  it('every formula is in the table', () => {
    assert.deepEqual(new Set(rows.map(([formula]) => formula)), new Set(IMAGE_FORMULAS));
  });

  const side = fc.oneof(fc.integer({ min: 1, max: 10_000 }), fc.constantFrom(1, 384, 385, 512, 513, 2 ** 31 - 1));
  const images = fc.tuple(side, side, fc.constantFrom(...IMAGE_DETAILS));

  it('no size costs more than an unknown one, turning an image changes nothing, and no image is free', () => {
    fc.assert(
      fc.property(images, ([width, height, detail]) => {
        for (const rule of [null, ...IMAGE_FORMULAS.map((formula) => ({ formula }))]) {
          const tokens = imageTokensMax(rule, { size: { width, height }, detail });
          assert.ok(Number.isSafeInteger(tokens) && tokens > 0);
          assert.ok(tokens <= imageTokensMax(rule, { size: null, detail }));
          assert.equal(tokens, imageTokensMax(rule, { size: { width: height, height: width }, detail }));
        }
      }),
      { numRuns: 500 },
    );
  });

  it('an image of a model without a formula costs the most of all formulas', () => {
    fc.assert(
      fc.property(images, ([width, height, detail]) => {
        const image = { size: { width, height }, detail };
        const most = Math.max(...IMAGE_FORMULAS.map((formula) => imageTokensMax({ formula }, image)));
        assert.equal(imageTokensMax(null, image), most);
        assert.equal(imageTokensMax({ max: 500 }, image), Math.min(most, 500));
      }),
    );
  });
});
