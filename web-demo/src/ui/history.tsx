/** A board's past: a slider through its changes, who made them when, and a way back. */
import type { Doc, HistoryEntry } from "rejoin";
import { type ReactNode, useEffect, useMemo, useRef, useState } from "react";
import { useMayWrite } from "../access.ts";
import { isOwn } from "../arrivals.ts";
import { type Board, restoreBoard } from "../doc.ts";
import { makersOf, readEntry } from "../makers.ts";
import { say } from "../news.ts";
import { colourOf } from "../people.ts";
import { tellFailure } from "../receipts.ts";
import type { BoardValue, People } from "./board.tsx";
import { Avatar } from "./parts.tsx";

interface HistoryProps {
  doc: Doc<Board>;
  people: People;
  /** Shows the board as it was; null as it is. */
  onShow: (value: BoardValue | null) => void;
  onClose: () => void;
}

const WHEN = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "short" });

/** The heads of the state that the first changes of a history make: those which no other of them was made on. */
function headsAfter(entries: readonly HistoryEntry[], count: number): string[] {
  const some = entries.slice(0, count);
  const built = new Set(some.flatMap(({ deps }) => deps));
  return some.filter(({ hash }) => !built.has(hash)).map(({ hash }) => hash);
}

export function History({ doc, people, onShow, onClose }: HistoryProps): ReactNode {
  const [entries, setEntries] = useState<readonly HistoryEntry[] | null>(null);
  const [at, setAt] = useState(0);
  const asked = useRef(0);
  const mayWrite = useMayWrite();
  const slider = useRef<HTMLInputElement>(null);
  useEffect(() => {
    let wanted = true;
    // The history as it is now: what comes in while somebody looks at the past would move the slider under their hand.
    doc.history().then((found) => {
      if (!wanted) return;
      setEntries(found);
      setAt(found.length);
    }, tellFailure);
    return () => {
      wanted = false;
    };
  }, [doc]);
  useEffect(() => slider.current?.focus(), [entries]);

  const travel = async (to: number): Promise<void> => {
    if (!entries) return;
    setAt(to);
    const turn = ++asked.current;
    if (to === entries.length) return onShow(null);
    const value = await doc.at(headsAfter(entries, to));
    // Whoever drags on wants the later answer, whichever comes first.
    if (turn === asked.current) onShow(value);
  };
  const restore = async (): Promise<void> => {
    if (!entries) return;
    isOwn((await restoreBoard(doc, headsAfter(entries, at))).change);
    say("Restored, as a change on top of all others", "good");
    onClose();
  };
  const entry = entries?.[at - 1];
  const makers = useMemo(() => makersOf(entries ?? []), [entries]);
  const { who: name, what } = entry ? readEntry(entry, makers) : { who: "", what: "" };
  return (
    <section className="history" aria-label="History">
      <input
        ref={slider}
        type="range"
        aria-label="Version"
        aria-valuetext={entry ? `${at} of ${entries?.length}: ${name} ${what}` : "loading"}
        min={1}
        max={entries?.length ?? 1}
        value={at || 1}
        disabled={!entries}
        onChange={(event) => void travel(Number(event.target.value)).catch(tellFailure)}
      />
      <div className="said">
        {entry ? (
          <>
            <Avatar small name={name} colour={colourOf(name, people)} />
            <p>
              <b>{name}</b> {what}
              <span className="fine">
                {entry.time ? WHEN.format(entry.time) : "at an unknown time"} · {at} of {entries?.length}
              </span>
            </p>
          </>
        ) : (
          <p>Reading the history</p>
        )}
        {mayWrite && (
          <button type="button" className="primary" disabled={!entries || at === entries.length} onClick={() => void restore().catch(tellFailure)}>
            Restore
          </button>
        )}
        <button type="button" onClick={onClose}>
          Back to now
        </button>
      </div>
    </section>
  );
}
