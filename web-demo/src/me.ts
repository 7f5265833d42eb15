/** What this browser remembers beside its documents: who sits here, which workspaces it knows, and how the page shall look. */
import { useSyncExternalStore } from "react";
import type { Person } from "./doc.ts";
import type { ReadLink } from "./relay.ts";
import { tokenId, tokenIn } from "./route.ts";

/**
 * Which device this page plays: `?device=b` is another store, another person and another connection in the same browser, so that one person
 * can see two devices part and rejoin.
 */
export const device = new URLSearchParams(location.search).get("device")?.replace(/[^\w-]/g, "") ?? "";
const PREFIX = `rejoin-demo${device && `-${device}`}`;

/** The read-only link's token that this page was opened with. */
export const opened = tokenIn(location.hash);

/** The name of the page's store. Each read-only link has one of its own: what may only be read is kept apart from what may be written. */
export const storeName = opened === null ? PREFIX : `${PREFIX}-read-${tokenId(opened)}`;

/** A value in localStorage, followed by all tabs. */
class Remembered<T> {
  readonly #key: string;
  readonly #listeners = new Set<() => void>();
  #value: T;

  /** `scope`: whose it is. Default: this device's. */
  constructor(name: string, first: () => T, scope = PREFIX) {
    this.#key = `${scope}:${name}`;
    this.#value = this.#read() ?? first();
    addEventListener("storage", (event) => {
      if (event.key !== this.#key) return;
      this.#value = this.#read() ?? first();
      this.#tell();
    });
  }

  get value(): T {
    return this.#value;
  }

  set value(value: T) {
    this.#value = value;
    try {
      localStorage.setItem(this.#key, JSON.stringify(value));
    } catch {
      // A browser that remembers nothing still shows this page until it is closed.
    }
    this.#tell();
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  #read(): T | undefined {
    try {
      return (JSON.parse(localStorage.getItem(this.#key) ?? "null") as T | null) ?? undefined;
    } catch {
      return undefined;
    }
  }

  #tell(): void {
    for (const listener of this.#listeners) listener();
  }
}

/** Reads a remembered value in a component. */
export function useRemembered<T>(remembered: Remembered<T>): T {
  return useSyncExternalStore(remembered.subscribe, () => remembered.value);
}

export interface Me extends Person {
  id: string;
  colour: keyof typeof CARETS;
}

export interface Known {
  space: string;
  index: string;
  name: string;
  /** It is known by a read-only link, which has this token. */
  token?: string;
}

/** A read-only link that was made here, to be shown again and taken back. */
export interface MadeLink extends ReadLink {
  readonly space: string;
}

/** The colours of people and cards. Pages show them by name, as their theme has them; a caret that goes to others needs one that stands for itself. */
export const CARETS = {
  blue: "#3a63d8",
  teal: "#0d7d86",
  green: "#2c7d3f",
  amber: "#8f6400",
  orange: "#b3500f",
  red: "#b93434",
  pink: "#b23277",
  violet: "#7447c9",
} as const;
export const COLOURS = Object.keys(CARETS) as readonly (keyof typeof CARETS)[];
const NAMES = ["Ada", "Grace", "Alan", "Edsger", "Barbara", "Radia", "Leslie", "Donald", "Hedy", "Niklaus", "Margaret", "Dennis", "Karen", "Tony"];

const pick = <Item>(items: readonly Item[]): Item => items[Math.floor(Math.random() * items.length)] as Item;

export const me = new Remembered<Me>("me", () => ({ id: crypto.randomUUID(), name: pick(NAMES), colour: pick(COLOURS) }));
// A name that was drawn stays: it must not be another one after a reload.
me.value = me.value;

export const workspaces = new Remembered<Known[]>("workspaces", () => []);
/** Whether the person has switched the network off. It outlives a reload, as the store does. */
export const offline = new Remembered<boolean>("offline", () => false);
/** The boards that this store has had as a whole: what comes into them is news, what comes before is only the first sync. */
export const seenBoards = new Remembered<string[]>("seen", () => [], storeName);
export const madeLinks = new Remembered<MadeLink[]>("links", () => []);
export const theme = new Remembered<"light" | "dark" | null>("theme", () => null, "rejoin-demo");

/** Signs a change: a history that says who did what is worth reading. */
export const signed = (what: string): { message: string } => ({ message: `${me.value.name}: ${what}` });

/** Reads a signature. */
export function unsign(message: string | null): { who: string | null; what: string } {
  const [, who, what] = /^([^:]{1,40}): (.*)$/s.exec(message ?? "") ?? [];
  return who && what ? { who, what } : { who: null, what: message ?? "" };
}

/** Whether two are the same workspace by the same right. A newer read-only link takes the place of an older one. */
const isSame = (a: Known, b: Known): boolean => a.index === b.index && (a.token === undefined) === (b.token === undefined);

/** Puts a workspace at the top of the list that this browser knows. */
export function remember(known: Known): void {
  const first = workspaces.value[0];
  if (first && isSame(first, known) && first.name === known.name && first.token === known.token) return;
  workspaces.value = [known, ...workspaces.value.filter((other) => !isSame(other, known))];
}

export const forget = (known: Known): void => {
  workspaces.value = workspaces.value.filter((other) => !isSame(other, known));
};
