/** A workspace: its boards at the side, one of them in the middle. */
import type { Doc } from "rejoin";
import { useDocument, useRepo } from "rejoin/react";
import { type ReactNode, useCallback, useContext, useEffect, useMemo, useState } from "react";
import { AccessContext, useAccess, useMayWrite } from "../access.ts";
import { addBoard, type Board, introduce, joinWorkspace, type Workspace as WorkspaceValue } from "../doc.ts";
import { me, remember, useRemembered } from "../me.ts";
import { inOrder } from "../order.ts";
import { usePeopleHere } from "../people.ts";
import { tellFailure } from "../receipts.ts";
import { type Route, toHash } from "../route.ts";
import { Blank } from "./blank.tsx";
import { BoardView } from "./board.tsx";
import { Connection, Profile, ThemeButton } from "./chrome.tsx";
import { Icon, Logo } from "./icons.tsx";
import { Avatar, Field, ReadChip } from "./parts.tsx";
import { Share } from "./share.tsx";

export function Workspace({ route }: { route: Route }): ReactNode {
  const repo = useRepo();
  // A mistyped id is none, which its checksum shows.
  const isSpace = useMemo(() => {
    try {
      return repo?.space(route.space) !== null;
    } catch {
      return false;
    }
  }, [repo, route.space]);
  return isSpace ? <Joined route={route} /> : <Blank status="failed" />;
}

function Joined({ route }: { route: Route }): ReactNode {
  const repo = useRepo();
  const access = useAccess(route);
  const workspace = useDocument<WorkspaceValue>(route.index);
  useEffect(() => {
    if (repo) joinWorkspace(repo, route.space).catch(tellFailure);
  }, [repo, route.space]);
  useEffect(() => {
    if (workspace.status === "ready") performance.mark("interactive");
  }, [workspace.status]);
  // A document that this link names but that is no workspace must not take the page down.
  const isWorkspace = workspace.status === "ready" && typeof workspace.value.boards === "object";
  return (
    <AccessContext value={access}>
      {isWorkspace ? <Ready route={route} doc={workspace.doc} value={workspace.value} /> : <Blank status={workspace.status === "ready" ? "missing" : workspace.status} />}
    </AccessContext>
  );
}

type Value = Doc<WorkspaceValue>["value"];

function Ready({ route, doc, value }: { route: Route; doc: Doc<WorkspaceValue>; value: Value }): ReactNode {
  const self = useRemembered(me);
  const access = useContext(AccessContext);
  const mayWrite = useMayWrite();
  const boards = useMemo(() => inOrder(value.boards), [value.boards]);
  const shown = route.board && value.boards[route.board] ? route.board : (boards[0]?.[0] ?? null);
  const [card, setCard] = useState<string | null>(null);
  const here = usePeopleHere(route.index, shown, card);
  const known = value.people[self.id];
  const { space, index, token } = route;
  useEffect(() => remember({ space, index, name: value.name, ...(token !== null && { token }) }), [space, index, token, value.name]);
  useEffect(() => {
    document.title = `${value.name} · Rejoin boards`;
  }, [value.name]);
  useEffect(() => {
    if (!mayWrite) return;
    if (known?.name !== self.name || known.colour !== self.colour) introduce(doc, self.id, { name: self.name, colour: self.colour }).catch(tellFailure);
  }, [doc, self, mayWrite, known?.name, known?.colour]);
  return (
    <div className="workspace" data-open={card !== null || undefined}>
      <header className="bar">
        <a className="quiet square button" href="#/" aria-label="All workspaces" title="All workspaces">
          <Logo />
        </a>
        <h1>
          <Field label="Name of the workspace" value={value.name} max={80} onWrite={(name) => void doc.set("name", name).catch(tellFailure)} />
        </h1>
        {!mayWrite && <ReadChip />}
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
      <Notice gone={access === "gone"} isLink={route.token !== null} />
      <Boards route={route} doc={doc} boards={boards.map(([id]) => id)} shown={shown} />
      {shown ? (
        <BoardView key={shown} id={shown} people={value.people} here={here} card={card} setCard={setCard} />
      ) : (
        <main className="blank">
          <h2>No boards yet</h2>
          {mayWrite && <p>Add the first one above.</p>}
        </main>
      )}
    </div>
  );
}

/** Says that the relay does not let this page in any more. The region is always there, since a screen reader hears only what changes in one. */
function Notice({ gone, isLink }: { gone: boolean; isLink: boolean }): ReactNode {
  return (
    <div className="notice" role="status">
      {gone && (
        <p>
          <Icon name="warn" />
          <span>
            <b>{isLink ? "This link no longer works." : "The relay does not give this workspace any more."}</b>{" "}
            {isLink && "Its time is over, or it was taken back. "}What is on this device can still be read; nothing new comes in.
          </span>
        </p>
      )}
    </div>
  );
}

function Boards({ route, doc, boards, shown }: { route: Route; doc: Doc<WorkspaceValue>; boards: readonly string[]; shown: string | null }): ReactNode {
  const repo = useRepo();
  const mayWrite = useMayWrite();
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
      {mayWrite && (
        <button type="button" className="quiet" onClick={() => void add().catch(tellFailure)}>
          <Icon name="add" /> <span>New board</span>
        </button>
      )}
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
