/**
 * Draws a receipt as PDF. The same receipt gives the same bytes: nothing here looks at a clock or at chance. Its
 * content is decided in top-up-receipt.ts; this file knows paper, fonts and lines.
 */
import { fileURLToPath } from 'node:url';
import PDFDocument from 'pdfkit';

/** Text beside its label, or a line of its own. */
export interface ReceiptLine {
  readonly label: string;
  readonly text: string;
  readonly bold?: boolean;
}

export interface ReceiptSection {
  /** Empty for none. */
  readonly title: string;
  readonly lines: readonly ReceiptLine[];
}

export interface Receipt {
  readonly number: string;
  /** Epoch milliseconds of the last event in it. */
  readonly asOf: number;
  /** Name and address, line by line. */
  readonly seller: readonly string[];
  readonly sections: readonly ReceiptSection[];
  readonly footer: string;
}

/** DejaVu Sans: Latin, Greek, Cyrillic, Armenian, Georgian and more; free to embed. */
const FONTS = {
  regular: fontFile('DejaVuSans.ttf'),
  bold: fontFile('DejaVuSans-Bold.ttf'),
};

function fontFile(name: string): string {
  return fileURLToPath(import.meta.resolve(`dejavu-fonts-ttf/ttf/${name}`));
}

const MARGIN = 56;
const LABEL_WIDTH = 130;
const LINE_GAP = 4;
const SIZES = { title: 20, section: 11, text: 10, small: 8 };
const GREY = '#555555';
const BLACK = '#000000';

const UNKNOWN_GLYPHS = 'Characters that the font of this document lacks are written as their Unicode numbers.';

export async function drawReceipt(receipt: Receipt): Promise<Buffer> {
  const at = new Date(receipt.asOf);
  const document = new PDFDocument({
    size: 'A4',
    margin: MARGIN,
    info: {
      Title: `Receipt ${receipt.number}`,
      Producer: 'Holdfast',
      Creator: 'Holdfast',
      CreationDate: at,
      ModDate: at,
    },
  });
  const parts: Buffer[] = [];
  document.on('data', (part: Buffer) => parts.push(part));
  const ended = new Promise<void>((resolve, reject) => document.once('end', resolve).once('error', reject));
  new Page(document).draw(receipt);
  document.end();
  await ended;
  return Buffer.concat(parts);
}

/** One document being drawn, from top to bottom. */
class Page {
  readonly #document: PDFKit.PDFDocument;
  readonly #width: number;
  #hasUnknownGlyphs = false;

  constructor(document: PDFKit.PDFDocument) {
    this.#document = document;
    this.#width = document.page.width - 2 * MARGIN;
  }

  draw({ number, seller, sections, footer }: Receipt): void {
    this.#text(`Receipt ${number}`, { font: FONTS.bold, size: SIZES.title });
    this.#space(8);
    for (const [at, line] of seller.entries()) {
      this.#text(line, { font: at === 0 ? FONTS.bold : FONTS.regular, size: SIZES.text });
    }
    for (const section of sections) this.#section(section);
    this.#space(20);
    if (this.#hasUnknownGlyphs) this.#text(UNKNOWN_GLYPHS, { font: FONTS.regular, size: SIZES.small, color: GREY });
    if (footer !== '') this.#text(footer, { font: FONTS.regular, size: SIZES.small, color: GREY });
  }

  #section({ title, lines }: ReceiptSection): void {
    this.#space(14);
    if (title !== '') {
      this.#text(title, { font: FONTS.bold, size: SIZES.section });
      this.#space(2);
    }
    for (const line of lines) this.#line(line);
  }

  /** The text may take several lines; the label stands beside the first. */
  #line({ label, text, bold = false }: ReceiptLine): void {
    const document = this.#document;
    document.font(bold ? FONTS.bold : FONTS.regular).fontSize(SIZES.text);
    const shown = this.#printable(text);
    const width = this.#width - LABEL_WIDTH;
    const height = document.heightOfString(shown, { width });
    if (document.y + height > document.page.height - MARGIN) document.addPage();
    const top = document.y;
    document.fillColor(GREY).text(this.#printable(label), MARGIN, top, { width: LABEL_WIDTH - 8, lineBreak: false });
    document.fillColor(BLACK).text(shown, MARGIN + LABEL_WIDTH, top, { width });
    document.y = top + height + LINE_GAP;
  }

  #text(text: string, { font, size, color = BLACK }: { font: string; size: number; color?: string }): void {
    const document = this.#document;
    document.font(font).fontSize(size).fillColor(color);
    document.text(this.#printable(text), MARGIN, document.y, { width: this.#width });
  }

  #space(points: number): void {
    this.#document.y += points;
  }

  /** A missing glyph would be an empty box: the character's number at least says which it was. */
  #printable(text: string): string {
    // The library does not type the font it has loaded.
    const { font } = (this.#document as unknown as { _font: { font: { hasGlyphForCodePoint(code: number): boolean } } })
      ._font;
    let shown = '';
    for (const character of text.normalize('NFC')) {
      const code = character.codePointAt(0)!;
      if (character === '\n' || font.hasGlyphForCodePoint(code)) shown += character;
      else {
        shown += `[U+${code.toString(16).toUpperCase().padStart(4, '0')}]`;
        this.#hasUnknownGlyphs = true;
      }
    }
    return shown;
  }
}
