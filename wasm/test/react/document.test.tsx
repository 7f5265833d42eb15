import { Profiler, type ReactElement, StrictMode, Suspense } from "react";
import { afterEach, describe, expect, it, vi } from "vitest";
import { act, fireEvent, render, screen } from "@testing-library/react";
import { Repo } from "../../ts/index.js";
import { RejoinError } from "../../ts/index.js";
import { type DocumentResult, RepoProvider, shallow, useDocument, useDocumentSuspense, useField } from "../../ts/react/index.js";
import { LINGER_MS } from "../../ts/react/opened.js";
import { newId } from "../../ts/page/ids.js";
import { FakeEngine, FakeLink, turn } from "../page/fake.js";
import { Boundary, made, meanwhile, settle, stage } from "./stage.js";

type Todo = { title: string; done: boolean; tags: string[] };
const TEA: Todo = { title: "Tea", done: false, tags: ["hot"] };

/** Renders what a hook returns, and keeps it. */
function probe<Result>(use: () => Result): { element: ReactElement; seen: Result[] } {
  const seen: Result[] = [];
  function Probe(): null {
    seen.push(use());
    return null;
  }
  return { element: <Probe />, seen };
}

/** Lets nothing be found before it is to arrive. */
function late(repo: Repo) {
  let arrive = (): void => {};
  const arrived = new Promise<void>((resolve) => (arrive = resolve));
  const find = repo.find.bind(repo);
  const spy = vi.spyOn(repo, "find").mockImplementation((id) => arrived.then(() => find(id)) as never);
  return { find: spy, arrive };
}

const last = <Item,>(items: Item[]): Item => items[items.length - 1] as Item;

afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

describe("useDocument", () => {
  it("is loading first and ready when the document is here", async () => {
    const { repo, show } = await stage();
    const id = await made(repo, TEA);
    const { element, seen } = probe(() => useDocument<Todo>(id));
    show(element);
    expect(seen[0]).toMatchObject({ status: "loading", doc: undefined, value: undefined });
    await settle();
    expect(last(seen)).toMatchObject({ status: "ready", value: TEA });
    expect(last(seen).doc?.id).toBe(id);
    expect(seen.map(({ status }) => status)).toEqual(["loading", "ready"]);
  });

  it("waits for content that is elsewhere", async () => {
    const { engine, show } = await stage();
    const id = newId();
    const wait = vi.spyOn(engine, "answer");
    const { element, seen } = probe(() => useDocument<Todo>(id));
    show(element);
    await settle();
    expect(wait).toHaveBeenCalled();
    // The model of the engine waits for nothing: what has no content by then is missing.
    expect(last(seen)).toMatchObject({ status: "missing", error: { code: "timeout" } });
  });

  it("renders again only when the selected value has changed", async () => {
    const { engine, repo, show } = await stage();
    const id = await made(repo, TEA);
    const { element, seen } = probe(() => useDocument<Todo, string>(id, (todo) => todo.title));
    show(element);
    await settle();
    const renders = seen.length;
    await meanwhile(() => engine.remote(id, ["set", ["done"], true], ["set", ["tags"], ["cold"]]));
    expect(seen.length).toBe(renders);
    await meanwhile(() => engine.remote(id, ["set", ["title"], "Coffee"]));
    expect(seen.length).toBe(renders + 1);
    expect(last(seen).value).toBe("Coffee");
  });

  it("renders again for a part that changed and not for its neighbour", async () => {
    const { engine, repo, show } = await stage();
    const id = await made(repo, { left: { n: 1 }, right: { n: 1 } });
    const left = probe(() => useDocument<{ left: object; right: object }, object>(id, (value) => value.left));
    const right = probe(() => useDocument<{ left: object; right: object }, object>(id, (value) => value.right));
    show(
      <>
        {left.element}
        {right.element}
      </>,
    );
    await settle();
    const [before, quiet] = [left.seen.length, right.seen.length];
    await meanwhile(() => engine.remote(id, ["set", ["left", "n"], 2]));
    expect([left.seen.length, right.seen.length]).toEqual([before + 1, quiet]);
  });

  it("compares what a selector makes anew as it is told to", async () => {
    const { engine, repo, show } = await stage();
    const id = await made(repo, TEA);
    const { element, seen } = probe(() => useDocument<Todo, object>(id, ({ title, done }) => ({ title, done }), { equal: shallow }));
    show(element);
    await settle();
    const renders = seen.length;
    await meanwhile(() => engine.remote(id, ["set", ["tags"], ["cold"]]));
    expect(seen.length).toBe(renders);
    await meanwhile(() => engine.remote(id, ["set", ["done"], true]));
    expect(seen.length).toBe(renders + 1);
    expect(last(seen).value).toEqual({ title: "Tea", done: true });
  });

  it("returns the same object as long as nothing has changed", async () => {
    const { repo, show } = await stage();
    const id = await made(repo, TEA);
    const { element, seen } = probe(() => useDocument<Todo, object>(id, ({ title }) => ({ title }), { equal: shallow }));
    const shown = show(element);
    await settle();
    const before = last(seen);
    const renders = seen.length;
    shown.again(<div>{element}</div>);
    shown.again(element);
    await settle();
    expect(seen.length).toBeGreaterThan(renders);
    expect(last(seen).value).toEqual({ title: "Tea" });
    const kept = probe(() => useDocument<Todo>(id));
    function Parent({ n }: { n: number }): ReactElement {
      return <div data-n={n}>{kept.element}</div>;
    }
    shown.again(<Parent n={1} />);
    await settle();
    const first = last(kept.seen);
    shown.again(<Parent n={2} />);
    expect(last(kept.seen)).toBe(first);
    expect(before.status).toBe("ready");
  });

  it("uses the newest selector, also one written inline", async () => {
    const { repo, show } = await stage();
    const id = await made(repo, TEA);
    const seen: DocumentResult<Todo, unknown>[] = [];
    function Pick({ field }: { field: keyof Todo }): null {
      seen.push(useDocument<Todo, unknown>(id, (todo) => todo[field]));
      return null;
    }
    const shown = show(<Pick field="title" />);
    await settle();
    expect(last(seen).value).toBe("Tea");
    shown.again(<Pick field="done" />);
    expect(last(seen).value).toBe(false);
  });

  it("follows another id and lets go of the first", async () => {
    const { engine, repo, show } = await stage();
    const [tea, coffee] = [await made(repo, TEA), await made(repo, { ...TEA, title: "Coffee" })];
    const seen: unknown[] = [];
    function Title({ id }: { id: string }): null {
      seen.push(useDocument<Todo, string>(id, (todo) => todo.title).value);
      return null;
    }
    const shown = show(<Title id={tea} />);
    await settle();
    shown.again(<Title id={coffee} />);
    // Never the title of the one under the id of the other.
    expect(last(seen)).toBe(undefined);
    await settle();
    expect(last(seen)).toBe("Coffee");
    const renders = seen.length;
    await meanwhile(() => engine.remote(tea, ["set", ["title"], "Green tea"]));
    expect(seen.length).toBe(renders);
  });

  it("says that a document was deleted", async () => {
    const { repo, show } = await stage();
    const id = await made(repo, TEA);
    const { element, seen } = probe(() => useDocument<Todo>(id));
    show(element);
    await settle();
    await meanwhile(() => repo.delete(id));
    expect(last(seen)).toMatchObject({ status: "deleted", value: undefined });
  });

  it("says why an id is none", async () => {
    const { show } = await stage();
    const { element, seen } = probe(() => useDocument("no id"));
    show(element);
    await settle();
    expect(last(seen)).toMatchObject({ status: "failed", error: { code: "bad_argument" } });
  });

  it("opens a document once for all components and closes it a while after the last", async () => {
    const { repo, show, count } = await stage();
    const id = await made(repo, TEA);
    const closed = count("close");
    const opened = count("open");
    const [one, two] = [probe(() => useDocument(id)), probe(() => useDocument(id))];
    const shown = show(
      <>
        {one.element}
        {two.element}
      </>,
    );
    await settle();
    expect(count("open")).toBe(opened + 1);
    shown.again(<>{one.element}</>);
    vi.useFakeTimers();
    shown.again(<p />);
    vi.advanceTimersByTime(LINGER_MS - 1);
    expect(count("close")).toBe(closed);
    vi.advanceTimersByTime(1);
    vi.useRealTimers();
    await settle();
    expect(count("close")).toBe(closed + 1);
  });

  it("neither closes nor flickers when a component comes back", async () => {
    const { repo, show, count } = await stage();
    const id = await made(repo, TEA);
    const [opened, closed] = [count("open"), count("close")];
    const first = probe(() => useDocument<Todo>(id));
    const shown = show(first.element);
    await settle();
    vi.useFakeTimers();
    shown.again(<p />);
    vi.advanceTimersByTime(LINGER_MS - 1);
    const second = probe(() => useDocument<Todo>(id));
    shown.again(second.element);
    expect(second.seen[0]).toMatchObject({ status: "ready", value: TEA });
    vi.advanceTimersByTime(10 * LINGER_MS);
    vi.useRealTimers();
    await settle();
    expect([count("open"), count("close")]).toEqual([opened + 1, closed]);
  });

  it("opens once and never closes under StrictMode", async () => {
    const { repo, show, count } = await stage();
    const id = await made(repo, TEA);
    const [opened, closed] = [count("open"), count("close")];
    const { element, seen } = probe(() => useDocument<Todo>(id));
    show(element, true);
    await settle();
    expect(last(seen).status).toBe("ready");
    expect(seen.map(({ status }) => status).filter((status, at, all) => status !== all[at - 1])).toEqual(["loading", "ready"]);
    expect([count("open"), count("close")]).toEqual([opened + 1, closed]);
  });

  it("closes what was opened after its component had gone", async () => {
    const { repo, show, count } = await stage();
    const id = await made(repo, TEA);
    const closed = count("close");
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const shown = show(probe(() => useDocument(id)).element);
    shown.again(<p />);
    vi.advanceTimersByTime(LINGER_MS);
    // Whoever suspended because of it would have some time to come.
    await vi.advanceTimersByTimeAsync(LINGER_MS - 1);
    expect(count("close")).toBe(closed);
    await vi.advanceTimersByTimeAsync(LINGER_MS);
    vi.useRealTimers();
    await settle();
    expect(count("close")).toBe(closed + 1);
  });
});

describe("useDocumentSuspense", () => {
  it.each([false, true])("suspends until the document is here (strict: %s)", async (strict) => {
    const { engine, repo, show, count } = await stage();
    const id = await made(repo, TEA);
    const opened = count("open");
    function Title(): ReactElement {
      const { value, doc } = useDocumentSuspense<Todo, string>(id, (todo) => todo.title);
      return (
        <b>
          {value} of {doc.id}
        </b>
      );
    }
    show(
      <Suspense fallback="loading">
        <Title />
      </Suspense>,
      strict,
    );
    expect(document.body.textContent).toBe("loading");
    await settle();
    expect(document.body.textContent).toBe(`Tea of ${id}`);
    await meanwhile(() => engine.remote(id, ["set", ["title"], "Coffee"]));
    expect(document.body.textContent).toBe(`Coffee of ${id}`);
    expect(count("open")).toBe(opened + 1);
  });

  it("comes out of suspense also when the document takes longer than one lingers", async () => {
    const { repo, show } = await stage();
    const id = await made(repo, TEA);
    const { find, arrive } = late(repo);
    function Title(): ReactElement {
      return <>{useDocumentSuspense<Todo>(id).value.title}</>;
    }
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    show(
      <Suspense fallback="loading">
        <Title />
      </Suspense>,
    );
    vi.advanceTimersByTime(3 * LINGER_MS);
    vi.useRealTimers();
    expect(document.body.textContent).toBe("loading");
    await meanwhile(arrive);
    await settle();
    expect(document.body.textContent).toBe("Tea");
    expect(find).toHaveBeenCalledOnce();
  });

  it("throws for an error boundary what keeps the document from being read", async () => {
    vi.spyOn(console, "error").mockImplementation(() => {});
    const { repo, show } = await stage();
    const id = await made(repo, TEA);
    function Title({ id }: { id: string }): ReactElement {
      return <>{useDocumentSuspense<Todo>(id).value.title}</>;
    }
    const shown = show(
      <Boundary>
        <Suspense fallback="loading">
          <Title id="no id" />
        </Suspense>
      </Boundary>,
    );
    await settle();
    expect(document.body.textContent).toBe("error: bad_argument");
    shown.again(
      <Boundary key="another">
        <Suspense fallback="loading">
          <Title id={id} />
        </Suspense>
      </Boundary>,
    );
    await settle();
    expect(document.body.textContent).toBe("Tea");
    await meanwhile(() => repo.delete(id));
    expect(document.body.textContent).toBe("error: deleted");
  });

  it("suspends until the repo is open", async () => {
    const repo = Repo.open({ name: "test", link: new FakeLink(new FakeEngine()) });
    const id = await made(await repo, TEA);
    function Title(): ReactElement {
      return <>{useDocumentSuspense<Todo>(id).value.title}</>;
    }
    let open = (_: Repo): void => {};
    const coming = new Promise<Repo>((resolve) => (open = resolve));
    render(
      <StrictMode>
        <RepoProvider repo={coming}>
          <Suspense fallback="loading">
            <Title />
          </Suspense>
        </RepoProvider>
      </StrictMode>,
    );
    await settle();
    expect(document.body.textContent).toBe("loading");
    await meanwhile(async () => open(await repo));
    await settle();
    expect(document.body.textContent).toBe("Tea");
  });
});

describe("a Suspense above the provider", () => {
  it.each([true, false])("comes to an end when the repo is open, strict: %s", async (strict) => {
    const repo = Repo.open({ name: "test", link: new FakeLink(new FakeEngine()) });
    const id = await made(await repo, TEA);
    let renders = 0;
    function Title(): ReactElement {
      renders++;
      return <>{useDocumentSuspense<Todo>(id).value.title}</>;
    }
    let open = (_: Repo): void => {};
    const coming = new Promise<Repo>((resolve) => (open = resolve));
    const page = (
      <Suspense fallback="loading">
        <RepoProvider repo={coming}>
          <Title />
        </RepoProvider>
      </Suspense>
    );
    render(strict ? <StrictMode>{page}</StrictMode> : page);
    await settle();
    expect(document.body.textContent).toBe("loading");
    await meanwhile(async () => open(await repo));
    await settle();
    expect(document.body.textContent).toBe("Tea");
    expect(renders).toBeLessThan(20);
  });

  it("shows the boundary why there is no repo", async () => {
    function Title(): ReactElement {
      return <>{useDocumentSuspense<Todo>("4NMNnkMhL8jXrdJ9jamS58PAVdXu").value.title}</>;
    }
    const coming = Promise.reject(new RejoinError("store_in_use", "held"));
    render(
      <Boundary>
        <Suspense fallback="loading">
          <RepoProvider repo={coming}>
            <Title />
          </RepoProvider>
        </Suspense>
      </Boundary>,
    );
    await settle();
    await settle();
    expect(document.body.textContent).toBe("error: store_in_use");
  });
});

describe("useField", () => {
  it("drives an input: what is typed shows within the event", async () => {
    const { repo, show } = await stage();
    const id = await made(repo, TEA);
    function Title(): ReactElement {
      const [title = "", set] = useField<string>(id, "title");
      return <input value={title} onChange={(event) => void set(event.target.value)} />;
    }
    show(<Title />);
    await settle();
    const input = screen.getByRole<HTMLInputElement>("textbox");
    expect(input.value).toBe("Tea");
    fireEvent.change(input, { target: { value: "Teas" } });
    expect(input.value).toBe("Teas");
    await settle();
    expect((await repo.find<Todo>(id)).value.title).toBe("Teas");
  });

  it("writes by a function of what is there, waits for the document, and deletes", async () => {
    const { repo, show } = await stage();
    const id = await made(repo, { counts: { a: 1, b: 1 } });
    const { element, seen } = probe(() => useField<number>(id, ["counts", "a"]));
    show(element);
    const early = last(seen)[1]((value) => (value ?? 0) + 1);
    await settle();
    expect((await early).stage).toBe("local");
    expect(last(seen)[0]).toBe(2);
    await meanwhile(() => last(seen)[1]((value) => (value ?? 0) + 1));
    expect(last(seen)[0]).toBe(3);
    await meanwhile(() => last(seen)[1](undefined));
    expect(last(seen)[0]).toBe(undefined);
    expect((await repo.find(id)).value).toEqual({ counts: { b: 1 } });
  });

  it("writes when the document is there, though the component had gone by then", async () => {
    const { repo, show } = await stage();
    const id = await made(repo, TEA);
    const { arrive } = late(repo);
    const { element, seen } = probe(() => useField<string>(id, "title"));
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const shown = show(element);
    const early = last(seen)[1]("Coffee");
    shown.again(<p />);
    vi.advanceTimersByTime(3 * LINGER_MS);
    vi.useRealTimers();
    await meanwhile(arrive);
    expect((await early).stage).toBe("local");
    vi.restoreAllMocks();
    expect((await repo.find<Todo>(id)).value.title).toBe("Coffee");
  });

  it("keeps its function from render to render, also for a path written inline", async () => {
    const { repo, show } = await stage();
    const id = await made(repo, TEA);
    const { element, seen } = probe(() => useField<string>(id, ["tags", 0]));
    const shown = show(element);
    await settle();
    shown.again(<>{element}</>);
    await settle();
    expect(last(seen)[0]).toBe("hot");
    const sets = seen.map(([, set]) => set);
    expect(new Set(sets.slice(0, 2)).size).toBe(1);
  });

  it("takes back what the engine refuses, and rejects", async () => {
    const { engine, repo, show } = await stage();
    const id = await made(repo, TEA);
    const { element, seen } = probe(() => useField<string>(id, "title"));
    show(element);
    await settle();
    engine.failures.push("store_full");
    let refused: unknown;
    act(() => void last(seen)[1]("Coffee").catch((error: unknown) => (refused = error)));
    expect(last(seen)[0]).toBe("Coffee");
    await settle();
    expect(refused).toMatchObject({ code: "store_full" });
    expect(last(seen)[0]).toBe("Tea");
  });

  it("does not render for other fields", async () => {
    const { engine, repo, show } = await stage();
    const id = await made(repo, TEA);
    const { element, seen } = probe(() => useField<string>(id, "title"));
    let commits = 0;
    show(
      <Profiler id="field" onRender={() => commits++}>
        {element}
      </Profiler>,
    );
    await settle();
    const before = [seen.length, commits];
    await meanwhile(() => engine.remote(id, ["set", ["done"], true]));
    expect([seen.length, commits]).toEqual(before);
    await turn();
  });
});
