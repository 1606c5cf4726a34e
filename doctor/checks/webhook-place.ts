/** The address for a provider's events. */

/** The address of a provider's webhook: `https://…/webhooks/stripe`. */
export function endpointPlace(publicUrl: string, provider: string): string {
  return `${publicUrl.replace(/\/+$/, '')}/webhooks/${provider}`;
}

/** Whether a registered address is that place; a slash at the end or a query make no difference. */
export function isSamePlace(registered: string, place: string): boolean {
  if (!URL.canParse(registered)) return false;
  const normal = (text: string): string => {
    const { origin, pathname } = new URL(text);
    return `${origin}${pathname.replace(/\/+$/, '')}`;
  };
  return normal(registered) === normal(place);
}
