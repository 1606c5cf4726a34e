/** Common parts of the twin's pages: one layout, plain forms, no JavaScript. */
import type { PageAnswer } from '../kit/http.ts';
import { escape, htmlPage } from '../kit/html.ts';

export function notice(status: number, title: string, text: string): PageAnswer {
  return { status, html: page(title, `<h1>${escape(title)}</h1><p>${escape(text)}</p>`) };
}

/** `body` is HTML whose data has been escaped. */
export function page(title: string, body: string): string {
  return htmlPage(title, STYLE, body);
}

const STYLE = `body { margin: 0; min-height: 100vh; display: grid; place-items: center; background: light-dark(#f2f3f5, #1e1f22); }
main { box-sizing: border-box; width: min(46rem, 100vw); padding: 2rem; background: light-dark(#fff, #2b2d31); border-radius: .75rem; }
h1 { margin: 0 0 1rem; font-size: 1.5rem; line-height: 1.25; overflow-wrap: anywhere; }
h2 { margin: 2rem 0 .5rem; font-size: 1.125rem; }
table { width: 100%; border-collapse: collapse; }
th, td { padding: .5rem .25rem; text-align: left; vertical-align: top; border-top: 1px solid light-dark(#dcdfe4, #44474d); }
form { display: inline-flex; flex-wrap: wrap; gap: .5rem; align-items: center; margin: .125rem 0; }
label { display: inline-flex; gap: .5rem; align-items: center; }
input, select, button { box-sizing: border-box; padding: .5rem .75rem; font: inherit; border-radius: .5rem; border: 1px solid light-dark(#767b87, #8b909c); }
input[type="number"] { width: 5rem; }
button { background: #4752c4; color: #fff; border-color: transparent; font-weight: 600; cursor: pointer; }
button.quiet { background: transparent; color: inherit; font-weight: 400; border-color: light-dark(#767b87, #8b909c); }
:focus-visible { outline: 3px solid #818cf8; outline-offset: 2px; }
.error { color: light-dark(#b3261e, #f2b8b5); font-weight: 600; }
.small { font-size: .875rem; color: light-dark(#4e5058, #b5bac1); overflow-wrap: anywhere; }`;
