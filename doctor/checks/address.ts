/** The address at which customers and providers reach the api. */
import { fault, ok, wordsOf, type Check } from '../check.ts';
import { ask } from '../http.ts';

export function addressCheck(publicUrl: string, isLive: boolean): Check {
  const silentCure = 'start the api, or correct PUBLIC_URL';
  return {
    name: 'public address',
    run: async (signal) => {
      const isSecure = publicUrl.startsWith('https:');
      const findings =
        isLive && !isSecure
          ? [
              fault(
                `PUBLIC_URL is ${publicUrl}, without TLS, while real money is taken`,
                'set PUBLIC_URL to an https:// address',
              ),
            ]
          : [];
      try {
        const { status, text } = await ask(`${publicUrl}/readyz`, { signal });
        if (status === 200 && text.trim() === 'ready') {
          return findings.length > 0 ? findings : [ok(`the api is ready at ${publicUrl}`)];
        }
        const words =
          status === 503
            ? `the api at ${publicUrl} is not ready (${text.slice(0, 100)})`
            : `PUBLIC_URL, ${publicUrl}, is another program's: it answers /readyz with ${status}`;
        return [...findings, fault(words, 'see the log of the api, and where PUBLIC_URL leads')];
      } catch (error) {
        const words = `nobody answers at PUBLIC_URL, ${publicUrl} (${wordsOf(error)})`;
        return [
          ...findings,
          fault(words, `${silentCure}; no customer comes back from a checkout, and no event arrives`),
        ];
      }
    },
    silentCure,
  };
}
