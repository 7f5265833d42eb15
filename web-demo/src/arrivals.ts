/** What came from elsewhere into a board, and from whom: for cards that light up, and for the list of what has happened. */
import type { Doc, DocumentChange } from "rejoin";
import { useSyncStatus } from "rejoin/react";
import { useEffect, useState } from "react";
import type { Board } from "./doc.ts";
import { makersOf, readEntry } from "./makers.ts";
import { me, seenBoards } from "./me.ts";
import { say } from "./news.ts";

/** A card that has just changed, and who did it. */
export interface Flash {
  readonly who: string;
  readonly at: number;
}

export interface Arrival {
  readonly hash: string;
  readonly deps: readonly string[];
  readonly who: string;
  readonly what: string;
  readonly time: Date | null;
}

const FLASH_MS = 4_000;
const GATHER_MS = 60;
const LOG_MOST = 30;
/** More changes at once than this are told together: nobody reads sixty names. */
const ASKED_MOST = 40;

/** The changes of this page, which stand in the history beside those of others. */
const own = new Set<string>();

/** Notes that a change is this page's own. */
export function isOwn(hash: string | null): void {
  if (hash) own.add(hash);
}

export interface Arrivals {
  readonly flashes: ReadonlyMap<string, Flash>;
  readonly log: readonly Arrival[];
}

const NONE: Arrivals = { flashes: new Map(), log: [] };

/** Follows a board. */
export function useArrivals(board: Doc<Board>): Arrivals {
  const [arrivals, setArrivals] = useState(NONE);
  const isSynced = useSyncStatus((status) => status.state === "synced");
  useEffect(() => {
    if (!isSynced || seenBoards.value.includes(board.id)) return;
    // What came with the first sync is gathered before it counts.
    const timer = setTimeout(() => {
      seenBoards.value = [...seenBoards.value, board.id];
    }, 4 * GATHER_MS);
    return () => clearTimeout(timer);
  }, [board, isSynced]);
  useEffect(() => {
    setArrivals(NONE);
    const known = new Set<string>();
    const cards = new Set<string>();
    let over = false;
    let gathering: ReturnType<typeof setTimeout> | undefined;
    const fading = new Set<ReturnType<typeof setTimeout>>();
    const began = board.history().then(
      (entries) => entries.forEach(({ hash }) => known.add(hash)),
      () => {},
    );
    const gather = async (): Promise<void> => {
      gathering = undefined;
      await began;
      const changed = [...cards];
      cards.clear();
      const history = await board.history();
      const makers = makersOf(history);
      const entries = history.filter(({ hash }) => !known.has(hash));
      for (const { hash } of entries) known.add(hash);
      // This page's own changes are known to the person who made them.
      const others = entries.filter(({ hash }) => !own.has(hash));
      const news = others.map((entry) => ({ hash: entry.hash, deps: entry.deps, ...readEntry(entry, makers), time: entry.time }));
      const flashes = await attribute(board, news, changed);
      if (over || !news.length || !seenBoards.value.includes(board.id)) return;
      const log = [...news].reverse();
      setArrivals((last) => ({ flashes: new Map([...last.flashes, ...flashes]), log: [...log, ...last.log].slice(0, LOG_MOST) }));
      say(summary(news, flashes));
      const fade = setTimeout(() => {
        fading.delete(fade);
        setArrivals((last) => ({ ...last, flashes: new Map([...last.flashes].filter(([, { at }]) => Date.now() - at < FLASH_MS)) }));
      }, FLASH_MS + 50);
      fading.add(fade);
    };
    const stop = board.subscribe(({ origin, patches }: DocumentChange<Board>) => {
      if (origin === "local") return;
      for (const { path } of patches) if (path[0] === "cards" && typeof path[1] === "string") cards.add(path[1]);
      gathering ??= setTimeout(() => void gather().catch(() => {}), GATHER_MS);
    });
    return () => {
      over = true;
      stop();
      clearTimeout(gathering);
      fading.forEach(clearTimeout);
    };
  }, [board]);
  return arrivals;
}

/** Finds which of the changed cards each change touched. */
async function attribute(board: Doc<Board>, news: readonly Arrival[], changed: readonly string[]): Promise<Map<string, Flash>> {
  const at = Date.now();
  const flashes = new Map<string, Flash>();
  const touched = new Set(changed);
  const asked = news.slice(-ASKED_MOST);
  const diffs = await Promise.all(asked.map(({ deps, hash }) => board.diff(deps, [hash]).catch(() => [])));
  asked.forEach((entry, index) => {
    for (const { path } of diffs[index] ?? []) {
      if (path[0] === "cards" && typeof path[1] === "string" && touched.has(path[1])) flashes.set(path[1], { who: entry.who, at });
    }
  });
  return flashes;
}

function summary(news: readonly Arrival[], flashes: ReadonlyMap<string, Flash>): string {
  const names = [...new Set(news.map(({ who }) => who))];
  const [only] = news;
  if (only && news.length === 1) {
    const { who, what } = only;
    return who === me.value.name ? `You, elsewhere: ${what}` : `${who} ${what}`;
  }
  const cards = flashes.size === 0 ? "" : flashes.size === 1 ? " to 1 card" : ` to ${flashes.size} cards`;
  return `${news.length} changes${cards} came in from ${list(names)}`;
}

function list(names: readonly string[]): string {
  if (names.length < 2) return names[0] ?? "elsewhere";
  if (names.length > 3) return `${names.length} people`;
  return `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}
