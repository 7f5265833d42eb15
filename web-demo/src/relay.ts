/** The relay beside its WebSocket: where it is, and the read-only links that it makes. */

/** A link that may only be used for reading. */
export interface ReadLink {
  /** Names it, to take it back. */
  readonly id: string;
  /** The link's secret part. */
  readonly token: string;
  /** When it ends by itself, in seconds since 1970. */
  readonly expires: number;
}

/** How long a link works, in seconds: a week. */
const LASTS_SECONDS = 7 * 86_400;
/** How long the relay may take to answer, in milliseconds. */
const PATIENCE_MS = 10_000;

/** The relay that served this page, unless the address says otherwise: `?relay=wss://…`. */
export function relayUrl(): string {
  const asked = new URLSearchParams(location.search).get("relay");
  return asked ?? import.meta.env.VITE_RELAY ?? `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/`;
}

/** Finds where links are made: at the same place as the WebSocket. */
export function shareUrl(relay: string, id = ""): string {
  return new URL(id ? `share/${id}` : "share", relay.replace(/^ws/, "http")).href;
}

/** Asks for a link by which a space can be read for a week. What it rejects with can be shown as it is. */
export async function makeReadLink(space: string): Promise<ReadLink> {
  const response = await ask(shareUrl(relayUrl()), {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ space, access: "read", expires_in_seconds: LASTS_SECONDS }),
  });
  const link: unknown = await response.json().catch(() => undefined);
  if (!isLink(link)) throw new Error("The relay answered something that this page does not understand.");
  return { id: link.id, token: link.token, expires: link.expires };
}

/** Takes a link back: whoever has it is let in no longer. One that the relay does not know is back already. */
export async function revokeLink(id: string): Promise<void> {
  await ask(shareUrl(relayUrl(), id), { method: "DELETE" }, 404);
}

async function ask(url: string, request: RequestInit, fine?: number): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url, { ...request, signal: AbortSignal.timeout(PATIENCE_MS) });
  } catch {
    throw new Error("The relay cannot be reached, and only the relay can do this. Try again when you are online.");
  }
  if (!response.ok && response.status !== fine) throw new Error(await complaint(response));
  return response;
}

function isLink(given: unknown): given is ReadLink {
  const { id, token, expires } = (given ?? {}) as Partial<ReadLink>;
  return typeof id === "string" && typeof token === "string" && typeof expires === "number";
}

const WORDS: Partial<Record<number, string>> = {
  401: "This relay makes links only for those who have signed in, which this page does not do.",
  403: "This relay does not let you share this workspace.",
  404: "This relay makes no read-only links, or none of this workspace.",
  405: "This relay makes no read-only links.",
  409: "This relay keeps no more links for you.",
  429: "Too many links were asked for. Try again later.",
};

/** Says why the relay would not: in our words where we have some, else in its own. */
async function complaint(response: Response): Promise<string> {
  const problem = (await response.json().catch(() => null)) as { title?: unknown; detail?: unknown } | null;
  const own = WORDS[response.status];
  if (own) return own;
  const said = [problem?.detail, problem?.title].find((text) => typeof text === "string" && text);
  return said ? `The relay refused: ${String(said)}` : `The relay refused (${response.status}).`;
}
