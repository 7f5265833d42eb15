/** What is said to the person: one line at the bottom of the page, which screen readers hear as well. */
import { useSyncExternalStore } from "react";

export interface News {
  readonly id: number;
  readonly text: string;
  readonly tone: "plain" | "good" | "bad";
}

const STAYS_MS = 5_000;
let current: News | null = null;
let timer: ReturnType<typeof setTimeout> | undefined;
const listeners = new Set<() => void>();

function show(news: News | null): void {
  current = news;
  for (const listener of listeners) listener();
}

/** Says something. It goes after a while, or when something else is said. */
export function say(text: string, tone: News["tone"] = "plain"): void {
  show({ id: (current?.id ?? 0) + 1, text, tone });
  clearTimeout(timer);
  timer = setTimeout(() => show(null), STAYS_MS);
}

export const useNews = (): News | null =>
  useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => current,
  );
