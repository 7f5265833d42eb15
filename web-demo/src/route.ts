/**
 * What the part of the address behind `#` says: which workspace is shown, and by what right. It never leaves the browser.
 *
 * `#/w/<space>/<index>` is a workspace as whoever has its ids sees it; `#/r/<space>/<index>/<token>` is one that the relay lets be read by
 * whoever has the token. A board may follow either.
 */

export interface Route {
  readonly space: string;
  readonly index: string;
  readonly board: string | null;
  /** What the relay is shown: the token of a read-only link. Null where it is shown nothing. */
  readonly token: string | null;
}

const ID = "[1-9A-HJ-NP-Za-km-z]+";
const ROUTE = new RegExp(`^#/(?:w/(?<space>${ID})/(?<index>${ID})|r/(?<given>${ID})/(?<listed>${ID})/(?<token>rjs_[0-9a-f]{16}_[\\w-]+))(?:/(?<board>${ID}))?$`);

/** Reads a hash. Null: the list of workspaces; "broken": it was to be a link, and is none. */
export function readHash(hash: string): Route | "broken" | null {
  const found = ROUTE.exec(hash)?.groups;
  const [space, index] = [found?.["space"] ?? found?.["given"], found?.["index"] ?? found?.["listed"]];
  if (space && index) return { space, index, board: found?.["board"] ?? null, token: found?.["token"] ?? null };
  return /^#\/[wr]\//.test(hash) ? "broken" : null;
}

/** Writes a hash. */
export function toHash({ space, index, board, token }: Route): string {
  const tail = board ? `/${board}` : "";
  return token === null ? `#/w/${space}/${index}${tail}` : `#/r/${space}/${index}/${token}${tail}`;
}

/** The token that a page at this address shows the relay. */
export function tokenIn(hash: string): string | null {
  const route = readHash(hash);
  return route === null || route === "broken" ? null : route.token;
}

/** Names a token without giving it away: its id is no secret. */
export const tokenId = (token: string): string => token.split("_")[1] ?? "";
