/** The conflicts of a card: what is shown, what was chosen beside it, by whom, and a way to pick. */
import type { Conflict, Doc, Receipt } from "rejoin";
import { type ReactNode, useEffect, useState } from "react";
import { useMayWrite } from "../access.ts";
import type { CardConflicts } from "../conflicts.ts";
import { type Board, type Choice, setField } from "../doc.ts";
import { makersOf } from "../makers.ts";
import { colourOf } from "../people.ts";
import type { People } from "./board.tsx";
import { Icon } from "./icons.tsx";
import { Avatar, day, tint } from "./parts.tsx";

interface ConflictsProps {
  doc: Doc<Board>;
  id: string;
  title: string;
  conflicts: CardConflicts;
  people: People;
  onWrite: (id: string, receipt: Promise<Receipt>) => void;
}

const NAMES: Record<Choice, string> = { title: "title", done: "state", assignee: "assignee", due: "due date", colour: "colour" };

export function Conflicts({ doc, id, title, conflicts, people, onWrite }: ConflictsProps): ReactNode {
  const makers = useMakers(doc, conflicts);
  const mayWrite = useMayWrite();
  return (
    <section className="conflicts" aria-label="Chosen at the same time">
      {[...conflicts].map(([field, values]) => (
        <div key={field}>
          <h3>
            <Icon name="fork" /> Two choices of {NAMES[field]}
          </h3>
          <ul>
            {values.map((one, index) => {
              const who = makers.get(actorOf(one)) ?? "Somebody";
              return (
                <li key={one.id} data-winner={index === 0 || undefined}>
                  <Avatar small name={who} colour={colourOf(who, people)} />
                  <span className="value">
                    <Shown field={field} value={one.value} people={people} />
                    <span className="fine">
                      {who}
                      {index === 0 && ", shown now"}
                    </span>
                  </span>
                  {mayWrite && (
                    <button type="button" onClick={() => onWrite(id, setField(doc, id, field, one.value as never, `decided on the ${NAMES[field]} of “${title}”`))}>
                      {index === 0 ? "Keep" : "Use this"}
                    </button>
                  )}
                </li>
              );
            })}
          </ul>
        </div>
      ))}
    </section>
  );
}

function Shown({ field, value, people }: { field: Choice; value: unknown; people: People }): ReactNode {
  if (field === "done") return value ? "Done" : "Open";
  const text = String(value ?? "");
  if (!text) return <i>nothing</i>;
  if (field === "assignee") return people[text]?.name ?? "Somebody";
  if (field === "due") return day(text);
  if (field === "colour") return <span className="swatch" style={tint(text)}>{text}</span>;
  return text;
}

/** A write is named by its place in the document's order and its maker: `12@<actor>`. */
const actorOf = ({ id }: Conflict): string => id.split("@")[1] ?? "";

/** Finds the names of those who made the values, by what the same makers have signed. */
function useMakers(doc: Doc<Board>, conflicts: CardConflicts): ReadonlyMap<string, string> {
  const [makers, setMakers] = useState<ReadonlyMap<string, string>>(new Map());
  useEffect(() => {
    let wanted = true;
    doc.history().then(
      (entries) => {
        if (wanted) setMakers(makersOf(entries));
      },
      () => {},
    );
    return () => {
      wanted = false;
    };
  }, [doc, conflicts]);
  return makers;
}
