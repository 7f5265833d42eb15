/** A board: its cards in their order, a place to add one, and beside them the card that is open. */
import type { Doc } from "rejoin";
import { useDocument, useRepo, useSyncStatus } from "rejoin/react";
import { type KeyboardEvent, type ReactNode, useCallback, useEffect, useMemo, useRef, useState } from "react";
import { useMayWrite } from "../access.ts";
import { type Arrival, useArrivals } from "../arrivals.ts";
import { useConflicts } from "../conflicts.ts";
import { addCard, type Board, moveCard, type Person, renameBoard } from "../doc.ts";
import { say } from "../news.ts";
import { inOrder } from "../order.ts";
import { colourOf, type Here } from "../people.ts";
import { follow, tellFailure } from "../receipts.ts";
import { CardDetail } from "./card-detail.tsx";
import { CardRow } from "./card-row.tsx";
import { useDrag } from "./drag.ts";
import { History } from "./history.tsx";
import { Icon } from "./icons.tsx";
import { preload } from "./note.tsx";
import { ago, Avatar, Field } from "./parts.tsx";

export type People = Readonly<Record<string, Person>>;
export type BoardValue = Doc<Board>["value"];

interface BoardProps {
  people: People;
  here: readonly Here[];
  card: string | null;
  setCard: (card: string | null) => void;
}

export function BoardView({ id, ...props }: BoardProps & { id: string }): ReactNode {
  const board = useDocument<Board>(id);
  const { setCard } = props;
  useEffect(() => () => setCard(null), [setCard]);
  if (board.status === "ready" && typeof board.value.cards === "object") return <Ready doc={board.doc} value={board.value} {...props} />;
  const loading = board.status === "loading";
  return (
    <main className="board" aria-busy={loading}>
      <p className="empty">{loading ? "This board is on its way from the relay." : "This board is gone."}</p>
    </main>
  );
}

function Ready({ doc, value, people, here, card, setCard }: BoardProps & { doc: Doc<Board>; value: BoardValue }): ReactNode {
  const repo = useRepo();
  const mayWrite = useMayWrite();
  const arrivals = useArrivals(doc);
  const { conflicts, recheck } = useConflicts(doc);
  const [past, setPast] = useState<BoardValue | null>(null);
  const [travelling, setTravelling] = useState(false);
  const list = useRef<HTMLUListElement>(null);
  const shown = past ?? value;
  const cards = useMemo(() => inOrder(shown.cards), [shown.cards]);
  const open = card !== null ? value.cards[card] : undefined;

  /** Follows a write, and looks whether it has settled a conflict or made one. */
  const write = useCallback((id: string, receipt: ReturnType<Doc<Board>["set"]>) => void follow(id, receipt).then(() => recheck(id)), [recheck]);
  const move = useCallback(
    (id: string, to: number): void => {
      const title = doc.value.cards[id]?.title ?? "";
      const ids = inOrder(doc.value.cards).map(([other]) => other);
      if (to < 0 || to >= ids.length || ids.indexOf(id) === to) return;
      write(id, moveCard(doc, id, to, title));
      say(`“${title}” is now ${to + 1} of ${ids.length}`);
    },
    [doc, write],
  );
  const drag = useDrag(list, move);
  const add = async (title: string): Promise<void> => {
    if (!repo) return;
    const { id, receipt } = await addCard(repo, doc, title);
    await follow(id, Promise.resolve(receipt));
    document.getElementById(`card-${id}`)?.scrollIntoView({ block: "nearest" });
  };
  const close = useCallback(() => {
    setCard(null);
    // The focus goes back to where it came from.
    if (card) requestAnimationFrame(() => document.getElementById(`open-${card}`)?.focus());
  }, [card, setCard]);
  useShortcuts(open ? close : undefined);
  useEffect(() => {
    const idle = setTimeout(preload, 1_500);
    return () => clearTimeout(idle);
  }, []);
  useEffect(() => {
    if (card === null || open) return;
    setCard(null);
    say("The open card was removed");
  }, [card, open, setCard]);

  return (
    <>
      <main className="board" data-past={travelling || undefined}>
        <header>
          <h2>
            <Field label="Name of the board" value={shown.title} max={80} onWrite={(title) => void renameBoard(doc, title).catch(tellFailure)} />
          </h2>
          <Waiting doc={doc} />
          <button type="button" className="quiet" aria-pressed={travelling} onClick={() => setTravelling(!travelling)}>
            <Icon name="clock" /> <span>History</span>
          </button>
        </header>
        {travelling && (
          <History
            doc={doc}
            people={people}
            onShow={setPast}
            onClose={() => {
              setPast(null);
              setTravelling(false);
            }}
          />
        )}
        {cards.length === 0 ? (
          <p className="empty">{past ? "There were no cards yet." : mayWrite ? "No cards yet. Add the first one below." : "No cards yet."}</p>
        ) : (
          <ul className="cards" ref={list} onKeyDown={walk} data-dragging={drag.id !== null || undefined}>
            {cards.map(([id, one], index) => {
              const flash = past ? undefined : arrivals.flashes.get(id);
              return (
                <CardRow
                  key={id}
                  id={id}
                  doc={doc}
                  card={one}
                  index={index}
                  past={past !== null}
                  mayWrite={mayWrite}
                  open={id === card}
                  assignee={people[one.assignee]}
                  flash={flash?.who}
                  flashColour={flash && colourOf(flash.who, people)}
                  flashAt={flash?.at}
                  conflicts={past ? 0 : (conflicts.get(id)?.size ?? 0)}
                  lookers={lookersAt(here, id)}
                  shift={drag.shift(id, index)}
                  dragged={drag.id === id}
                  onGrab={drag.grab}
                  onOpen={setCard}
                  onMove={move}
                  onWrite={write}
                />
              );
            })}
          </ul>
        )}
        {!travelling && mayWrite && <Composer onAdd={(title) => void add(title).catch(tellFailure)} />}
        {!travelling && <Log log={arrivals.log} people={people} />}
      </main>
      {open && card !== null && !travelling && (
        <CardDetail key={card} id={card} doc={doc} card={open} people={people} conflicts={conflicts.get(card)} lookers={lookersAt(here, card)} onWrite={write} onClose={close} />
      )}
    </>
  );
}

const NOBODY: readonly Here[] = [];

function lookersAt(here: readonly Here[], card: string): readonly Here[] {
  const found = here.filter((person) => person.card === card);
  return found.length ? found : NOBODY;
}

/** How many changes of this board have not been sent: also those from before a reload, which no card remembers. */
function Waiting({ doc }: { doc: Doc<Board> }): ReactNode {
  // The number is the document's; the status only says when to look again.
  useSyncStatus();
  return <span className="fine waits">{doc.pending > 0 && `${doc.pending} not sent`}</span>;
}

function Composer({ onAdd }: { onAdd: (title: string) => void }): ReactNode {
  const [title, setTitle] = useState("");
  return (
    <form
      className="composer"
      onSubmit={(event) => {
        event.preventDefault();
        if (!title.trim()) return;
        onAdd(title.trim());
        setTitle("");
      }}
    >
      <input id="new-card" aria-label="New card" placeholder="New card" maxLength={200} enterKeyHint="done" value={title} onChange={(event) => setTitle(event.target.value)} />
      <kbd aria-hidden="true">N</kbd>
      <button type="submit" className="primary" disabled={!title.trim()}>
        Add
      </button>
    </form>
  );
}

function Log({ log, people }: { log: readonly Arrival[]; people: People }): ReactNode {
  if (!log.length) return null;
  return (
    <section className="log" aria-label="What came in">
      <h3>What came in</h3>
      <ol>
        {log.map(({ hash, who, what, time }) => (
          <li key={hash}>
            <Avatar small name={who} colour={colourOf(who, people)} />
            <span>
              <b>{who}</b> {what}
            </span>
            <time>{ago(time)}</time>
          </li>
        ))}
      </ol>
    </section>
  );
}

/** Arrow keys walk from card to card. */
function walk(event: KeyboardEvent<HTMLElement>): void {
  if (event.altKey || (event.key !== "ArrowDown" && event.key !== "ArrowUp")) return;
  const buttons = [...event.currentTarget.querySelectorAll<HTMLButtonElement>(".open")];
  const at = buttons.indexOf(event.target as HTMLButtonElement);
  if (at < 0) return;
  event.preventDefault();
  buttons[at + (event.key === "ArrowDown" ? 1 : -1)]?.focus();
}

/** N goes to the new card, Escape closes the open one. Neither while something is typed or a dialog is open. */
function useShortcuts(close: (() => void) | undefined): void {
  useEffect(() => {
    const hear = (event: globalThis.KeyboardEvent): void => {
      const target = event.target as HTMLElement;
      if (event.defaultPrevented || document.querySelector("dialog[open], :popover-open")) return;
      if (event.key === "Escape" && close) close();
      const types = target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName);
      if (event.key === "n" && !types && !event.metaKey && !event.ctrlKey && !event.altKey) {
        event.preventDefault();
        document.getElementById("new-card")?.focus();
      }
    };
    addEventListener("keydown", hear);
    return () => removeEventListener("keydown", hear);
  }, [close]);
}
