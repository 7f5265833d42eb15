/** One card in the list. It renders again only when something about it has changed. */
import type { Doc, Receipt } from "rejoin";
import { memo, type PointerEvent, type ReactNode } from "react";
import { type Board, type Person, setField, vote } from "../doc.ts";
import type { Here } from "../people.ts";
import { type Progress, useProgress } from "../receipts.ts";
import type { BoardValue } from "./board.tsx";
import { Icon } from "./icons.tsx";
import { Avatar, day, tint } from "./parts.tsx";

export type CardValue = BoardValue["cards"][string];

interface CardRowProps {
  id: string;
  doc: Doc<Board>;
  card: CardValue;
  index: number;
  /** Whether this is how the card was once: then it does not open. */
  past: boolean;
  mayWrite: boolean;
  open: boolean;
  assignee: Person | undefined;
  flash: string | undefined;
  flashColour: string | undefined;
  flashAt: number | undefined;
  conflicts: number;
  lookers: readonly Here[];
  shift: number;
  dragged: boolean;
  onGrab: (event: PointerEvent<HTMLElement>, id: string, index: number) => void;
  onOpen: (id: string) => void;
  onMove: (id: string, to: number) => void;
  onWrite: (id: string, receipt: Promise<Receipt>) => void;
}

export const CardRow = memo(function CardRow(props: CardRowProps): ReactNode {
  const { id, doc, card, index, past, mayWrite, flash, conflicts, shift } = props;
  const canWrite = mayWrite && !past;
  const votes = Number(card.votes);
  const late = !card.done && card.due !== "" && card.due < new Date().toISOString().slice(0, 10);
  return (
    <li
      id={`card-${id}`}
      className="card"
      data-done={card.done || undefined}
      data-open={props.open || undefined}
      data-dragged={props.dragged || undefined}
      data-conflict={conflicts > 0 || undefined}
      style={{ ...tint(card.colour), transform: shift ? `translateY(${shift}px)` : undefined }}
      onKeyDown={(event) => {
        if (!canWrite || !event.altKey || (event.key !== "ArrowUp" && event.key !== "ArrowDown")) return;
        event.preventDefault();
        props.onMove(id, index + (event.key === "ArrowDown" ? 1 : -1));
      }}
    >
      <span className="stripe" aria-hidden="true" />
      {mayWrite && (
        <button
          type="button"
          className="grip"
          disabled={past}
          tabIndex={-1}
          aria-label={`Drag “${card.title}”; with the keyboard, Alt and arrow keys on the card`}
          onPointerDown={(event) => props.onGrab(event, id, index)}
        >
          <Icon name="grip" />
        </button>
      )}
      <input
        type="checkbox"
        className="check"
        aria-label={`Done: ${card.title}`}
        checked={card.done}
        disabled={!canWrite}
        onChange={() => props.onWrite(id, setField(doc, id, "done", !card.done, `${card.done ? "reopened" : "finished"} “${card.title}”`))}
      />
      <button
        type="button"
        id={`open-${id}`}
        className="open"
        disabled={past}
        aria-expanded={props.open}
        aria-keyshortcuts={canWrite ? "Alt+ArrowUp Alt+ArrowDown" : undefined}
        onClick={() => props.onOpen(id)}
      >
        <span className="title">{card.title}</span>
        <span className="meta">
          {conflicts > 0 && (
            <span className="badge">
              <Icon name="fork" /> {conflicts === 1 ? "conflict" : `${conflicts} conflicts`}
            </span>
          )}
          {card.due && (
            <span className="due" data-late={late || undefined}>
              {late && "late, "}
              {day(card.due)}
            </span>
          )}
          {props.assignee && (
            <span className="assignee">
              <Avatar small name={props.assignee.name} colour={props.assignee.colour} note="assigned" />
            </span>
          )}
          {!past && <Mark id={id} />}
        </span>
      </button>
      <span className="lookers">
        {props.lookers.map((person) => (
          <Avatar key={person.id} small name={person.name} colour={person.colour} note="looks at this card" />
        ))}
      </span>
      <button type="button" className="votes" disabled={!canWrite} aria-label={`Vote for “${card.title}”: ${votes} so far`} onClick={() => props.onWrite(id, vote(doc, id, card.title))}>
        <Icon name="up" />
        <span>{votes}</span>
      </button>
      {flash !== undefined && (
        <span key={props.flashAt} className="flash" style={tint(props.flashColour ?? "grey")} aria-hidden="true">
          <b>{flash}</b>
        </span>
      )}
    </li>
  );
});

export const WORDS: Record<Progress, string> = {
  saving: "being written",
  local: "safe on this device",
  relayed: "on the relay",
  seen: "seen by another device",
  refused: "refused by the relay",
  failed: "not written",
};

const SHORT: Record<Progress, string> = { saving: "…", local: "here", relayed: "relay", seen: "seen", refused: "refused", failed: "failed" };

/** How far the last write has got: one, two or three of three dots, and the word. */
export function Mark({ id }: { id: string }): ReactNode {
  const progress = useProgress(id);
  if (!progress) return null;
  return (
    <span className="mark" data-progress={progress} title={`Your last change is ${WORDS[progress]}`}>
      <i aria-hidden="true" />
      <i aria-hidden="true" />
      <i aria-hidden="true" />
      {SHORT[progress]}
    </span>
  );
}
