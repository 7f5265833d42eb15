/** How far the last write to each card has got, and what could not be written. */
import { type Receipt, RejoinError, type Stage } from "rejoin";
import { useSyncExternalStore } from "react";
import { isOwn } from "./arrivals.ts";
import { say } from "./news.ts";

/** `saving`: shown, and on its way to the store. `refused`: the relay will not have it. `failed`: it could not even be written here. */
export type Progress = "saving" | Stage | "refused" | "failed";

const stages = new Map<string, Progress>();
const latest = new Map<string, object>();
const listeners = new Set<() => void>();

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** How far the last write of this page to a card has got; undefined if it has written none. */
export const useProgress = (card: string): Progress | undefined => useSyncExternalStore(subscribe, () => stages.get(card));

/** Follows a write to a card from here to another device. A later write to the same card takes its place. */
export async function follow(card: string, write: Promise<Receipt>): Promise<void> {
  const token = {};
  latest.set(card, token);
  const show = (stage: Progress): void => {
    if (latest.get(card) !== token || stages.get(card) === stage) return;
    stages.set(card, stage);
    for (const listener of listeners) listener();
  };
  // What is safe within a blink need not be announced as being on its way.
  const slow = setTimeout(() => show("saving"), 400);
  try {
    const receipt = await write;
    isOwn(receipt.change);
    clearTimeout(slow);
    show("local");
    // In the background: whoever awaits this wants to know that the write is safe here.
    void further(receipt, show);
  } catch (error) {
    clearTimeout(slow);
    show("failed");
    tellFailure(error);
  }
}

async function further(receipt: Receipt, show: (stage: Progress) => void): Promise<void> {
  try {
    await receipt.wait("relayed");
    show("relayed");
    await receipt.wait("seen");
    show("seen");
  } catch (error) {
    if (error instanceof RejoinError && error.code === "rejected") show("refused");
  }
}

const WORDS: Partial<Record<RejoinError["code"], string>> = {
  store_full: "This device is out of space. Nothing was lost, but this change could not be kept.",
  deleted: "That was deleted meanwhile.",
  wrong_path: "That card is no longer there.",
  closed: "The page has closed its store. Reload it.",
};

/** Tells the person what went wrong. */
export function tellFailure(error: unknown): void {
  const code = error instanceof RejoinError ? error.code : undefined;
  say((code && WORDS[code]) ?? `That did not work: ${error instanceof Error ? error.message : String(error)}`, "bad");
}
