/** Fields that two people set at the same time. Both values are kept until somebody decides. */
import type { Conflict, Doc } from "rejoin";
import { useCallback, useEffect, useRef, useState } from "react";
import type { Board, Choice } from "./doc.ts";

/** Which fields can be in conflict in a way that a person wants to know. Two orders, or two votes, need no decision. */
export const CHOICES: readonly Choice[] = ["title", "done", "assignee", "due", "colour"];

/** The conflicts of a card: for each field the values, the winner first. */
export type CardConflicts = ReadonlyMap<Choice, readonly Conflict[]>;

const GATHER_MS = 60;
const isChoice = (key: unknown): key is Choice => CHOICES.includes(key as Choice);

/** Finds the conflicts of a board, and again whenever one of its fields changes. */
export function useConflicts(board: Doc<Board>): { conflicts: ReadonlyMap<string, CardConflicts>; recheck: (card: string) => void } {
  const [conflicts, setConflicts] = useState<ReadonlyMap<string, CardConflicts>>(new Map());
  const due = useRef(new Set<string>());
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  const check = useCallback(async (): Promise<void> => {
    timer.current = undefined;
    const cards = [...due.current].filter((card) => board.value.cards[card]);
    const gone = [...due.current].filter((card) => !board.value.cards[card]);
    due.current.clear();
    // Requests of one turn travel together, so asking for every field costs one message.
    const found = await Promise.all(cards.map(async (card) => [card, await ofCard(board, card)] as const));
    setConflicts((last) => {
      const next = new Map(last);
      for (const card of gone) next.delete(card);
      for (const [card, fields] of found) {
        if (fields.size) next.set(card, fields);
        else next.delete(card);
      }
      return next.size === 0 && last.size === 0 ? last : next;
    });
  }, [board]);
  const recheck = useCallback(
    (card: string) => {
      due.current.add(card);
      timer.current ??= setTimeout(() => void check().catch(() => {}), GATHER_MS);
    },
    [check],
  );
  useEffect(() => {
    setConflicts(new Map());
    for (const card of Object.keys(board.value.cards ?? {})) recheck(card);
    const stop = board.subscribe(({ patches }) => {
      for (const { path } of patches) {
        if (path.length < 2) Object.keys(board.value.cards).forEach(recheck);
        else if (path[0] === "cards" && (path.length === 2 || isChoice(path[2]))) recheck(String(path[1]));
      }
    });
    return () => {
      stop();
      clearTimeout(timer.current);
      timer.current = undefined;
    };
  }, [board, recheck]);
  return { conflicts, recheck };
}

async function ofCard(board: Doc<Board>, card: string): Promise<CardConflicts> {
  const all = await Promise.all(CHOICES.map((field) => board.conflicts(["cards", card, field]).catch(() => [])));
  return new Map(CHOICES.flatMap((field, index) => ((all[index]?.length ?? 0) > 1 ? [[field, all[index] as Conflict[]]] : [])));
}
