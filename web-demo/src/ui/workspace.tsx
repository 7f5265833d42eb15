/** A workspace: its boards at the side, one of them in the middle. */
import { type Doc, RejoinError } from "rejoin";
import { useDocument, useRepo, useSyncStatus } from "rejoin/react";
import { type ReactNode, useCallback, useEffect, useMemo, useState } from "react";
import { type Route, toHash } from "../app.tsx";
import { addBoard, type Board, introduce, joinWorkspace, type Workspace as WorkspaceValue } from "../doc.ts";
import { device, me, remember, useRemembered } from "../me.ts";
import { say } from "../news.ts";
import { inOrder } from "../order.ts";
import { usePeopleHere } from "../people.ts";
import { tellFailure } from "../receipts.ts";
import { BoardView } from "./board.tsx";
import { Connection, Profile, ThemeButton } from "./chrome.tsx";
import { Icon, Logo } from "./icons.tsx";
import { Avatar, Dialog, Field } from "./parts.tsx";

export function Workspace({ route }: { route: Route }): ReactNode {
  const repo = useRepo();
  const workspace = useDocument<WorkspaceValue>(route.index);
  useEffect(() => {
    if (!repo) return;
    joinWorkspace(repo, route.space).catch((error: unknown) => {
      // A link that is none is what the page then says itself.
      if (!(error instanceof RejoinError && error.code === "bad_argument")) tellFailure(error);
    });
  }, [repo, route.space]);
  useEffect(() => {
    if (workspace.status === "ready") performance.mark("interactive");
  }, [workspace.status]);
  if (workspace.status !== "ready") return <Blank status={workspace.status} />;
  // A document that this link names but that is no workspace must not take the page down.
  if (typeof workspace.value.boards !== "object") return <Blank status="missing" />;
  return <Ready route={route} doc={workspace.doc} value={workspace.value} />;
}

type Value = Doc<WorkspaceValue>["value"];

function Ready({ route, doc, value }: { route: Route; doc: Doc<WorkspaceValue>; value: Value }): ReactNode {
  const self = useRemembered(me);
  const boards = useMemo(() => inOrder(value.boards), [value.boards]);
  const shown = route.board && value.boards[route.board] ? route.board : (boards[0]?.[0] ?? null);
  const [card, setCard] = useState<string | null>(null);
  const here = usePeopleHere(route.index, shown, card);
  const known = value.people[self.id];
  useEffect(() => remember({ space: route.space, index: route.index, name: value.name }), [route.space, route.index, value.name]);
  useEffect(() => {
    document.title = `${value.name} · Rejoin boards`;
  }, [value.name]);
  useEffect(() => {
    if (known?.name !== self.name || known.colour !== self.colour) introduce(doc, self.id, { name: self.name, colour: self.colour }).catch(tellFailure);
  }, [doc, self, known?.name, known?.colour]);
  return (
    <div className="workspace" data-open={card !== null || undefined}>
      <header className="bar">
        <a className="quiet square button" href="#/" aria-label="All workspaces" title="All workspaces">
          <Logo />
        </a>
        <h1>
          <Field label="Name of the workspace" value={value.name} max={80} onWrite={(name) => void doc.set("name", name).catch(tellFailure)} />
        </h1>
        <ul className="avatars" aria-label="Also here">
          {here.map((person) => (
            <li key={person.id}>
              <Avatar name={person.name} colour={person.colour} note="is here" />
            </li>
          ))}
        </ul>
        <Share route={route} />
        <Connection />
        <ThemeButton />
        <Profile />
      </header>
      <Boards route={route} doc={doc} boards={boards.map(([id]) => id)} shown={shown} />
      {shown ? (
        <BoardView key={shown} id={shown} people={value.people} here={here} card={card} setCard={setCard} />
      ) : (
        <main className="blank">
          <h2>No boards yet</h2>
          <p>Add the first one above.</p>
        </main>
      )}
    </div>
  );
}

function Boards({ route, doc, boards, shown }: { route: Route; doc: Doc<WorkspaceValue>; boards: readonly string[]; shown: string | null }): ReactNode {
  const repo = useRepo();
  const add = useCallback(async (): Promise<void> => {
    if (!repo) return;
    const board = await addBoard(repo, doc, `Board ${boards.length + 1}`);
    location.hash = toHash({ ...route, board: board.id });
  }, [repo, doc, boards.length, route]);
  return (
    <nav className="boards" aria-label="Boards">
      <ul>
        {boards.map((id) => (
          <li key={id}>
            <a href={toHash({ ...route, board: id })} aria-current={id === shown ? "page" : undefined}>
              <BoardName id={id} />
            </a>
          </li>
        ))}
      </ul>
      <button type="button" className="quiet" onClick={() => void add().catch(tellFailure)}>
        <Icon name="add" /> <span>New board</span>
      </button>
    </nav>
  );
}

/** Opening a board for its title is cheap: fields are read without loading the document. */
function BoardName({ id }: { id: string }): ReactNode {
  const title = useDocument<Board, string>(
    id,
    useCallback((board) => board.title, []),
  );
  if (title.status === "ready") return title.value || "Untitled";
  return <span className="waiting">{title.status === "loading" ? "On its way" : "Gone"}</span>;
}

function Share({ route }: { route: Route }): ReactNode {
  const [open, setOpen] = useState(false);
  const link = `${location.origin}${location.pathname}${toHash({ ...route, board: null })}`;
  const second = `${location.origin}${location.pathname}?device=${device === "b" ? "c" : "b"}${toHash(route)}`;
  return (
    <>
      <button type="button" className="share" onClick={() => setOpen(true)}>
        <Icon name="link" /> <span>Share</span>
      </button>
      {open && (
        <Dialog title="Share this workspace" onClose={() => setOpen(false)}>
          <p>Whoever has this link can read and write here.</p>
          <div className="copy">
            <input readOnly aria-label="Link" value={link} onFocus={(event) => event.target.select()} />
            <button
              type="button"
              className="primary"
              onClick={() =>
                navigator.clipboard.writeText(link).then(
                  () => say("Link copied"),
                  () => say("The browser does not let this page copy. Take it from the field."),
                )
              }
            >
              Copy
            </button>
          </div>
          <p>
            Alone here? The same browser can play another device, with a store, a person and a connection of its own.
          </p>
          <a className="button" href={second} target="_blank" rel="noreferrer">
            <Icon name="device" /> Open as a second device
          </a>
        </Dialog>
      )}
    </>
  );
}

const BLANK: Record<string, [title: string, text: string]> = {
  missing: ["Nothing here", "Neither this device nor the relay has this workspace. The link may be cut off, or the relay has never seen it."],
  deleted: ["Deleted", "This workspace was deleted."],
  quarantined: ["Set aside", "This document could not be read without harm, and was set aside. Its data is kept."],
  failed: ["Not to be opened", "This is not the address of a workspace. The link may be cut off: copy it as a whole."],
};

/** While the workspace is on its way, and when it is not to be had. */
function Blank({ status }: { status: string }): ReactNode {
  const sync = useSyncStatus();
  const repo = useRepo();
  const [title, text] = BLANK[status] ?? ["", ""];
  const { progress } = sync;
  // What is on this device is there in no time: nothing need flash up for it.
  const [patient, setPatient] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setPatient(true), 400);
    return () => clearTimeout(timer);
  }, []);
  const away = repo !== undefined && (sync.state === "offline" || sync.state === "none");
  // The relay has told all it knows, and this was not in it: whoever made the link has not been online since.
  const unheard = sync.state === "synced" && (progress?.done ?? 0) >= (progress?.total ?? 0);
  const waits = away
    ? "It will come when the relay can be reached."
    : unheard
      ? "The relay has not heard of it yet. It appears here as soon as whoever shared it is online."
      : progress?.total
        ? `${progress.done} of ${progress.total} fetched`
        : "Looking for it.";
  return (
    <div className="workspace">
      <header className="bar">
        <a className="quiet square button" href="#/" aria-label="All workspaces">
          <Logo />
        </a>
        <span className="spring" />
        <Connection />
        <ThemeButton />
        <Profile />
      </header>
      {status === "loading" ? (
        <main className="blank" aria-busy="true" data-patient={patient || undefined}>
          <h1>{unheard ? "Not here yet" : "Fetching the workspace"}</h1>
          {!unheard && <progress aria-label="Fetched" {...(progress?.total ? { value: progress.done, max: progress.total } : {})} />}
          <p>{waits}</p>
        </main>
      ) : (
        <main className="blank" role="alert">
          <h1>{title}</h1>
          <p>{text}</p>
          <a className="button" href="#/">
            <Icon name="back" /> All workspaces
          </a>
        </main>
      )}
    </div>
  );
}
