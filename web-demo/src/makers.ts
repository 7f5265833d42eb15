/** Who made the changes of a history, as far as they have signed. */
import type { HistoryEntry } from "rejoin";
import { unsign } from "./me.ts";

/** Finds the names of makers by what they have signed: a device that has signed one change has made its others, too. */
export function makersOf(entries: readonly HistoryEntry[]): ReadonlyMap<string, string> {
  return new Map(
    entries.flatMap(({ actor, message }) => {
      const { who } = unsign(message);
      return who ? [[actor, who] as const] : [];
    }),
  );
}

/** Says who made a change and what it did. The first one of a document is unsigned. */
export function readEntry({ actor, deps, message }: HistoryEntry, makers: ReadonlyMap<string, string>): { who: string; what: string } {
  const { who, what } = unsign(message);
  return { who: who ?? makers.get(actor) ?? "Somebody", what: what || (deps.length ? "changed something" : "began this board") };
}
