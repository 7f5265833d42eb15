/** The first page: the workspaces that this browser knows, and a way to a new one. */
import { useRepo } from "rejoin/react";
import { type ReactNode, useEffect, useState } from "react";
import { addBoard, createWorkspace } from "../doc.ts";
import { addExample } from "../example.ts";
import { forget, remember, useRemembered, workspaces } from "../me.ts";
import { tellFailure } from "../receipts.ts";
import { toHash } from "../route.ts";
import { Connection, Profile, ThemeButton } from "./chrome.tsx";
import { Icon, Logo } from "./icons.tsx";
import { ReadChip } from "./parts.tsx";

export function Home(): ReactNode {
  const repo = useRepo();
  const known = useRemembered(workspaces);
  const [name, setName] = useState("");
  const [busy, setBusy] = useState(false);
  useEffect(() => {
    document.title = "Rejoin boards";
    if (repo) performance.mark("interactive");
  }, [repo]);

  const create = async (title: string, example: boolean): Promise<void> => {
    if (!repo) return;
    setBusy(true);
    try {
      const workspace = await createWorkspace(repo, title);
      const board = await addBoard(repo, workspace, example ? "How apart and together works" : "First board");
      if (example) await addExample(repo, board);
      const ids = { space: workspace.space as string, index: workspace.id };
      remember({ ...ids, name: title });
      location.hash = toHash({ ...ids, board: board.id, token: null });
    } catch (error) {
      setBusy(false);
      tellFailure(error);
    }
  };

  return (
    <div className="home">
      <header className="bar">
        <span className="brand">
          <Logo /> Rejoin boards
        </span>
        <span className="spring" />
        <Connection />
        <ThemeButton />
        <Profile />
      </header>
      <main>
        <h1>Work apart, rejoin later</h1>
        <p className="lead">
          Boards that live in this browser and meet at a relay. Switch the network off, change the same things in two places, come back: both have
          everything, and where two people chose differently you decide.
        </p>
        <form
          className="create"
          onSubmit={(event) => {
            event.preventDefault();
            void create(name.trim() || "My workspace", false);
          }}
        >
          <input aria-label="Name of the new workspace" placeholder="Name of a new workspace" maxLength={80} value={name} onChange={(event) => setName(event.target.value)} />
          <button type="submit" className="primary" disabled={!repo || busy}>
            Create
          </button>
        </form>
        <button type="button" className="quiet example" disabled={!repo || busy} onClick={() => void create("Try it out", true)}>
          <Icon name="fork" /> Start with an example
        </button>
        <section aria-labelledby="known">
          <h2 id="known">Your workspaces</h2>
          {known.length === 0 ? (
            <p className="empty">None yet. Create one, or open a link that somebody has shared with you.</p>
          ) : (
            <ul className="known">
              {known.map((one) => (
                <li key={one.index + (one.token ?? "")}>
                  <a href={toHash({ ...one, board: null, token: one.token ?? null })}>
                    <span>{one.name}</span>
                    {one.token && <ReadChip />}
                  </a>
                  <button type="button" className="quiet square" aria-label={`Take ${one.name} off this list`} title="Take off this list; its data stays" onClick={() => forget(one)}>
                    <Icon name="close" />
                  </button>
                </li>
              ))}
            </ul>
          )}
        </section>
      </main>
    </div>
  );
}
