/** The open card: its fields, what is in conflict, its note, and how far the last write has got. */
import type { Doc, Receipt } from "rejoin";
import { type ReactNode, useEffect, useRef } from "react";
import { useMayWrite } from "../access.ts";
import type { CardConflicts } from "../conflicts.ts";
import { type Board, type Choice, removeCard, setField, vote } from "../doc.ts";
import { COLOURS, me } from "../me.ts";
import type { Here } from "../people.ts";
import { useProgress } from "../receipts.ts";
import type { People } from "./board.tsx";
import { type CardValue, WORDS } from "./card-row.tsx";
import { Conflicts } from "./conflict-view.tsx";
import { Icon } from "./icons.tsx";
import { Note } from "./note.tsx";
import { Avatar, day, Field, tint } from "./parts.tsx";

interface CardDetailProps {
  id: string;
  doc: Doc<Board>;
  card: CardValue;
  people: People;
  conflicts: CardConflicts | undefined;
  lookers: readonly Here[];
  onWrite: (id: string, receipt: Promise<Receipt>) => void;
  onClose: () => void;
}

export function CardDetail({ id, doc, card, people, conflicts, lookers, onWrite, onClose }: CardDetailProps): ReactNode {
  const mayWrite = useMayWrite();
  const panel = useRef<HTMLElement>(null);
  useEffect(() => panel.current?.focus({ preventScroll: true }), []);
  const { title } = card;
  const rename = (next: string): void => onWrite(id, setField(doc, id, "title", next, `renamed “${title}” to “${next}”`));
  return (
    <aside className="detail" ref={panel} tabIndex={-1} aria-label={`Card: ${title}`}>
      <header>
        <button type="button" className="quiet square" aria-label="Close the card" title="Close (Esc)" onClick={onClose}>
          <Icon name="close" />
        </button>
        <span className="spring" />
        {lookers.map((person) => (
          <Avatar key={person.id} name={person.name} colour={person.colour} note="looks at this card" />
        ))}
        {mayWrite && (
          <button
            type="button"
            className="quiet square danger"
            aria-label={`Remove “${title}”`}
            title="Remove the card"
            onClick={() => {
              onClose();
              onWrite(id, removeCard(doc, id, title));
            }}
          >
            <Icon name="trash" />
          </button>
        )}
      </header>
      <h2>
        <Field long label="Title" value={title} onWrite={rename} />
      </h2>
      {conflicts && <Conflicts doc={doc} id={id} title={title} conflicts={conflicts} people={people} onWrite={onWrite} />}
      {mayWrite ? <Fields id={id} doc={doc} card={card} people={people} onWrite={onWrite} /> : <Facts card={card} people={people} />}
      <section className="note" aria-label="Note">
        <h3>Note</h3>
        <Note id={card.note} />
      </section>
      <Stages id={id} />
    </aside>
  );
}

type FieldsProps = Pick<CardDetailProps, "id" | "doc" | "card" | "people" | "onWrite">;

/** What was chosen for the card, to be chosen anew. */
function Fields({ id, doc, card, people, onWrite }: FieldsProps): ReactNode {
  const { title } = card;
  const write = <F extends Choice>(field: F, value: Parameters<typeof setField<F>>[3], what: string): void => onWrite(id, setField(doc, id, field, value, what));
  const assigned = card.assignee && people[card.assignee];
  return (
    <div className="fields">
      <label className="row">
        <span>Done</span>
        <input type="checkbox" className="check" checked={card.done} onChange={() => write("done", !card.done, `${card.done ? "reopened" : "finished"} “${title}”`)} />
      </label>
      <label className="row">
        <span>Assignee</span>
        <select
          value={card.assignee}
          onChange={({ target: { value } }) => write("assignee", value, value ? `assigned “${title}” to ${people[value]?.name ?? "somebody"}` : `took “${title}” from its assignee`)}
        >
          <option value="">Nobody</option>
          {card.assignee && !assigned && <option value={card.assignee}>Somebody</option>}
          {Object.entries(people).map(([person, { name }]) => (
            <option key={person} value={person}>
              {person === me.value.id ? `${name} (you)` : name}
            </option>
          ))}
        </select>
      </label>
      <label className="row">
        <span>Due</span>
        <input type="date" value={card.due} onChange={({ target: { value } }) => write("due", value, value ? `set “${title}” due on ${day(value)}` : `took the due date from “${title}”`)} />
      </label>
      <fieldset className="row swatches">
        <legend>Colour</legend>
        {["", ...COLOURS].map((colour) => (
          <label key={colour} style={tint(colour)} title={colour || "none"}>
            <input type="radio" name={`colour-${id}`} aria-label={colour || "none"} checked={card.colour === colour} onChange={() => write("colour", colour, `coloured “${title}”`)} />
          </label>
        ))}
      </fieldset>
      <div className="row">
        <span>Votes</span>
        <button type="button" className="votes" aria-label={`Vote: ${Number(card.votes)} so far`} onClick={() => onWrite(id, vote(doc, id, title))}>
          <Icon name="up" />
          <span>{Number(card.votes)}</span>
        </button>
      </div>
    </div>
  );
}

/** What was chosen for the card, where nothing may be written. */
function Facts({ card, people }: Pick<FieldsProps, "card" | "people">): ReactNode {
  const assignee = people[card.assignee];
  return (
    <dl className="fields facts">
      <Fact name="State">{card.done ? "Done" : "Open"}</Fact>
      <Fact name="Assignee">
        {assignee && <Avatar small name={assignee.name} colour={assignee.colour} />}
        {assignee?.name ?? (card.assignee ? "Somebody" : "Nobody")}
      </Fact>
      <Fact name="Due">{card.due ? day(card.due) : "No date"}</Fact>
      <Fact name="Colour">
        {card.colour ? (
          <span className="swatch" style={tint(card.colour)}>
            {card.colour}
          </span>
        ) : (
          "None"
        )}
      </Fact>
      <Fact name="Votes">{Number(card.votes)}</Fact>
    </dl>
  );
}

function Fact({ name, children }: { name: string; children: ReactNode }): ReactNode {
  return (
    <div className="row">
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

const STAGES = ["local", "relayed", "seen"] as const;

/** The way of the last write, from here to another device. */
function Stages({ id }: { id: string }): ReactNode {
  const progress = useProgress(id);
  const mayWrite = useMayWrite();
  if (!mayWrite && !progress) return null;
  const reached = STAGES.indexOf(progress as "local");
  return (
    <section className="stages" aria-label="Your last change">
      <h3>Your last change</h3>
      <ol>
        {STAGES.map((stage, index) => (
          <li key={stage} data-reached={index <= reached || undefined}>
            {WORDS[stage]}
          </li>
        ))}
      </ol>
      {(progress === "refused" || progress === "failed") && <p className="bad">It was {WORDS[progress]}.</p>}
      {!progress && <p className="fine">You have not changed this card since you opened the page.</p>}
    </section>
  );
}
