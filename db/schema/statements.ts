/**
 * Reads our own SQL files as statements. Knows comments, strings and dollar quotes, which is all that stands in them;
 * it does not understand SQL.
 */

/**
 * The statements of a file without their semicolons and without the comments between them; comments within a statement
 * stay.
 */
export function statementsOf(text: string): string[] {
  const statements: string[] = [];
  let statement = '';
  for (const token of tokensOf(text)) {
    if (token === ';') {
      statements.push(statement.trim());
      statement = '';
    } else if (statement.trim() !== '' || !isComment(token)) {
      statement += token;
    }
  }
  if (statement.trim() !== '') throw new Error(`a statement without its semicolon: ${statement.trim().slice(0, 60)}`);
  return statements;
}

/**
 * The text without comments, each run of white space as one space: what two statements that mean the same have in
 * common.
 */
export function withoutLayout(statement: string): string {
  let text = '';
  for (const token of tokensOf(statement)) {
    const isLayout = isComment(token) || /^\s+$/.test(token);
    if (!isLayout) text += token;
    else if (!text.endsWith(' ')) text += ' ';
  }
  return text.trim();
}

function isComment(token: string): boolean {
  return token.startsWith('--');
}

/** A comment to the end of its line, a string, a dollar-quoted body, white space, or one character. */
const TOKEN = /--[^\n]*|'(?:[^']|'')*'|(\$\w*\$)[\s\S]*?\1|\s+|[\s\S]/g;

function tokensOf(text: string): string[] {
  return [...text.matchAll(TOKEN)].map(([token]) => token);
}
