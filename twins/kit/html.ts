/**
 * Common parts of every twin's pages: one skeleton, and data that is escaped. Each twin has its own colours and forms.
 */

export function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}

/** `style` is CSS, `body` is HTML whose data has been escaped. */
export function htmlPage(title: string, style: string, body: string): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escape(title)}</title>
<style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
${style}
</style>
</head>
<body>
<main>
${body}
</main>
</body>
</html>
`;
}
