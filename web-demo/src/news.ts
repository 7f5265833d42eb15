/** What is said to the person: one line at the bottom of the page, which screen readers hear as well. */
import { useSyncExternalStore } from "react";

export interface News {
  readonly id: number;
  readonly text: string;
  /** `weak`: not worth taking the place of something that was just said. */
  readonly tone: "plain" | "good" | "bad" | "weak";
}

const STAYS_MS = 5_000;
const FRESH_MS = 2_500;
let saidAt = 0;
let current: News | null = null;
let timer: ReturnType<typeof setTimeout> | undefined;
const listeners = new Set<() => void>();

function show(news: News | null): void {
  current = news;
  for (const listener of listeners) listener();
}

/** Says something. It goes after a while, or when something else is said. */
export function say(text: string, tone: News["tone"] = "plain"): void {
  if (tone === "weak" && current && current.tone !== "weak" && Date.now() - saidAt < FRESH_MS) return;
  saidAt = Date.now();
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
