import { type ReactElement, StrictMode, Suspense, useEffect } from "react";
import { hydrateRoot, type Root } from "react-dom/client";
import { renderToString } from "react-dom/server";
import { afterEach, describe, expect, it, vi } from "vitest";
import { act, render } from "@testing-library/react";
import { Repo, type SpaceRights, type Status } from "../../ts/index.js";
import {
  RepoProvider,
  type PresenceResult,
  type SpaceResult,
  useDocument,
  useDocumentSuspense,
  useField,
  usePresence,
  useRepo,
  useSpace,
  useSpaceRights,
  useSyncStatus,
} from "../../ts/react/index.js";
import { FakeEngine, FakeLink } from "../page/fake.js";
import { Boundary, made, meanwhile, settle, stage } from "./stage.js";

const last = <Item,>(items: Item[]): Item => items[items.length - 1] as Item;

afterEach(() => {
  vi.restoreAllMocks();
});

describe("RepoProvider", () => {
  it("gives a repo at once, and a promised one when it is open", async () => {
    const repo = await Repo.open({ name: "test", link: new FakeLink(new FakeEngine()) });
    const seen: (Repo | undefined)[] = [];
    function Probe(): null {
      seen.push(useRepo());
      return null;
    }
    render(
      <RepoProvider repo={repo}>
        <Probe />
      </RepoProvider>,
    );
    expect(seen).toEqual([repo]);
    const coming = Promise.resolve(repo);
    render(
      <StrictMode>
        <RepoProvider repo={coming}>
          <Probe />
        </RepoProvider>
      </StrictMode>,
    );
    expect(last(seen)).toBe(undefined);
    await settle();
    expect(last(seen)).toBe(repo);
  });

  it("throws for an error boundary why the repo could not be opened", async () => {
    vi.spyOn(console, "error").mockImplementation(() => {});
    const coming = Promise.reject(Object.assign(new Error("newer"), { code: "store_newer" }));
    render(
      <Boundary>
        <RepoProvider repo={coming}>fine</RepoProvider>
      </Boundary>,
    );
    expect(document.body.textContent).toBe("fine");
    await settle();
    expect(document.body.textContent).toBe("error: store_newer");
  });

  it("is missed by name", () => {
    vi.spyOn(console, "error").mockImplementation(() => {});
    function Probe(): null {
      useRepo();
      return null;
    }
    render(
      <Boundary>
        <Probe />
      </Boundary>,
    );
    expect(document.body.textContent).toContain("RepoProvider");
  });
});

describe("useSpaceRights", () => {
  it("says what the relay said last", async () => {
    const { engine, repo, show } = await stage();
    const space = repo.space();
    const seen: SpaceRights[] = [];
    function Probe(): null {
      seen.push(useSpaceRights(space.id));
      return null;
    }
    show(<Probe />, true);
    await settle();
    expect(new Set(seen)).toEqual(new Set(["unknown"]));
    await meanwhile(() => engine.grant(space.id, "write"));
    expect(last(seen)).toBe("write");
    await meanwhile(() => engine.grant(space.id, "read"));
    expect(last(seen)).toBe("read");
    const renders = seen.length;
    await meanwhile(() => engine.grant(space.id, "read"));
    expect(seen.length).toBe(renders);
  });
});

describe("useSpace", () => {
  it("lists the documents and follows those that come and go", async () => {
    const { repo, show } = await stage();
    const space = repo.space();
    const first = await made(repo, { n: 1 }, space.id);
    const seen: SpaceResult[] = [];
    function List(): null {
      seen.push(useSpace(space.id));
      return null;
    }
    show(<List />, true);
    expect(last(seen)).toEqual({ space, ids: undefined });
    await settle();
    expect(last(seen).ids).toEqual([first]);
    let second = "";
    await meanwhile(async () => (second = await made(repo, { n: 2 }, space.id)));
    expect(last(seen).ids).toEqual([first, second]);
    const renders = seen.length;
    await meanwhile(() => made(repo, { n: 3 }));
    expect(seen.length).toBe(renders);
  });
});

describe("usePresence", () => {
  it("shows others, keeps identity, and clears what it has shown when it goes", async () => {
    const { engine, repo, show } = await stage();
    const id = await made(repo, { n: 1 });
    const seen: PresenceResult[] = [];
    function Faces(): null {
      const presence = usePresence(id);
      const { set } = presence;
      useEffect(() => void set("name", "Ada"), [set]);
      seen.push(presence);
      return null;
    }
    const shown = show(<Faces />, true);
    await settle();
    expect(last(seen).values).toMatchObject([{ key: "name", value: "Ada", own: true }]);
    expect(last(seen).others).toEqual([]);
    const bob = { author: "bob", key: "name", value: "Bob", own: false, since: 1 };
    await meanwhile(() => engine.tell({ e: "presence", doc: id, values: [...(engine.presences.get(id) ?? []), bob] }));
    expect(last(seen).others).toMatchObject([{ author: "bob", value: "Bob", since: new Date(1) }]);
    const renders = seen.length;
    await meanwhile(() => engine.tell({ e: "presence", doc: id, values: [...(engine.presences.get(id) ?? []), bob] }));
    expect(seen.length).toBe(renders);
    await meanwhile(() => shown.unmount());
    expect(engine.presences.get(id)).toEqual([]);
    expect(engine.calls.filter(([method]) => method === "presenceUnwatch").length).toBeGreaterThan(0);
  });
});

describe("useSyncStatus", () => {
  it("renders again only for what was selected", async () => {
    const { engine, show } = await stage();
    const states: string[] = [];
    const all: Status[] = [];
    function State(): null {
      states.push(useSyncStatus(({ state }) => state));
      return null;
    }
    function All(): null {
      all.push(useSyncStatus());
      return null;
    }
    show(
      <>
        <State />
        <All />
      </>,
    );
    await settle();
    const renders = [states.length, all.length] as const;
    await meanwhile(() => engine.tell({ e: "pending", total: 3, docs: {} }));
    expect([states.length, all.length]).toEqual([renders[0], renders[1] + 1]);
    expect(last(all).pending).toBe(3);
    await meanwhile(() => engine.tell({ e: "status", state: "syncing", pending: 3, storage: "memory" }));
    expect(last(states)).toBe("syncing");
  });
});

describe("on the server", () => {
  function App({ id, space }: { id: string; space: string }): ReactElement {
    const { status } = useDocument(id);
    const [title] = useField(id, "title");
    const { ids } = useSpace(space);
    const { values } = usePresence(id);
    const state = useSyncStatus(({ state }) => state);
    return <p>{`${status} ${title} ${ids?.length} ${values.length} ${state}`}</p>;
  }

  it("everything is loading, and the browser takes over without a mismatch", async () => {
    const { repo } = await stage();
    const space = repo.space().id;
    const id = await made(repo, { title: "Tea" }, space);
    const app = (from: Repo | null): ReactElement => (
      <RepoProvider repo={from}>
        <App id={id} space={space} />
      </RepoProvider>
    );
    const html = renderToString(app(null));
    expect(html).toBe("<p>loading undefined undefined 0 none</p>");
    const complaints = vi.spyOn(console, "error");
    const recovered = vi.fn();
    const root = document.body.appendChild(document.createElement("div"));
    root.innerHTML = html;
    // The document is open already when the browser takes over: what the server said must be said once more.
    const open = await repo.find(id);
    let hydrated: Root | undefined;
    await act(async () => {
      hydrated = hydrateRoot(root, app(repo), { onRecoverableError: recovered });
    });
    await settle();
    expect(root.textContent).toBe("ready Tea 1 0 none");
    expect(recovered).not.toHaveBeenCalled();
    expect(complaints).not.toHaveBeenCalled();
    act(() => hydrated?.unmount());
    root.remove();
    open.close();
  });

  it("the suspending hook leaves the fallback to be sent", async () => {
    const { repo } = await stage();
    const id = await made(repo, { title: "Tea" });
    function Title(): ReactElement {
      return <>{useDocumentSuspense<{ title: string }>(id).value.title}</>;
    }
    const app = (from: Repo | null): ReactElement => (
      <RepoProvider repo={from}>
        <Suspense fallback="loading">
          <Title />
        </Suspense>
      </RepoProvider>
    );
    vi.stubGlobal("window", undefined);
    const html = renderToString(app(null));
    vi.unstubAllGlobals();
    expect(html).toContain("loading");
    const root = document.body.appendChild(document.createElement("div"));
    root.innerHTML = html;
    let hydrated: Root | undefined;
    await act(async () => {
      hydrated = hydrateRoot(root, app(repo), { onRecoverableError: () => {} });
    });
    await settle();
    expect(root.textContent).toBe("Tea");
    act(() => hydrated?.unmount());
    root.remove();
  });
});
