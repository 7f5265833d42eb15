import { beforeEach, describe, expect, test, vi } from "vitest";
import { Counter, type DocumentChange, type Draft, Repo, RejoinError, type Schema, text, type Text } from "../../ts/index.js";
import { FakeEngine, FakeLink, turn } from "./fake.js";

interface Todo {
  title: string;
  done?: boolean;
  items: { name: string }[];
  votes: Counter;
  body: Text;
}

const todo = (): Todo => ({ title: "Tea", items: [{ name: "a" }, { name: "b" }], votes: new Counter(), body: text("hello") });

let engine: FakeEngine;
let link: FakeLink;
let repo: Repo;

beforeEach(async () => {
  engine = new FakeEngine();
  link = new FakeLink(engine);
  repo = await Repo.open({ name: "test", link });
});

/** The last request of a kind that reached the engine. */
const asked = (method: string): unknown[] | undefined => engine.calls.filter(([name]) => name === method).at(-1);

describe("an edit", () => {
  test("shows at once and resolves with a receipt when it is safe", async () => {
    const doc = await repo.create(todo());
    const writing = doc.set("title", "Coffee");
    expect(doc.value.title).toBe("Coffee");
    expect(doc.get("title")).toBe("Coffee");
    expect(doc.pending).toBe(1);
    const receipt = await writing;
    expect(receipt.stage).toBe("local");
    expect(receipt.change).toHaveLength(64);
    await receipt.wait("relayed", 100);
    expect(asked("reached")).toEqual(["reached", doc.id, receipt.change, "relayed", 100]);
    expect(receipt.stage).toBe("relayed");
    await turn();
    expect(doc.pending).toBe(0);
    expect(doc.heads).toEqual([receipt.change]);
  });

  test("of fields carries no base, one with indices the state they are meant in", async () => {
    const doc = await repo.create(todo());
    void doc.set("title", "x");
    void doc.increment("votes", 2);
    await doc.delete("done");
    expect(asked("edit")?.[2]).toBeNull();
    const { heads } = doc;
    const first = doc.change((d) => d.items.push({ name: "c" }));
    const second = doc.text("body").splice(0, 1, "H");
    await Promise.all([first, second]);
    const edits = engine.calls.filter(([name]) => name === "edit").slice(-2);
    const base = edits.map((call) => call[2] as { heads: string[]; own: number[] });
    expect(base[0]?.heads).toEqual(heads);
    expect(base[1]?.own.length).toBe((base[0]?.own.length ?? 0) + 1);
    expect(edits.map((call) => call[3])).toEqual([[["insert", ["items"], 2, [{ name: "c" }]]], [["splice", ["body"], 0, 1, "H"]]]);
  });

  test("of fields elsewhere is left out of the state that indices are meant in, and rows of ids travel as their ends", async () => {
    const doc = await repo.create({ ...todo(), state: {} as Record<string, unknown> });
    const all = [doc.set("title", "x"), doc.set("state", { list: [0] })];
    for (let n = 1; n <= 5; n++) all.push(doc.change((d) => d.items.push({ name: `${n}` })));
    // Into what the second one made.
    all.push(doc.set(["state", "list", 0], 1));
    await Promise.all(all);
    const edits = engine.calls.filter(([name]) => name === "edit").slice(-8).map((call) => call[2] as { own: unknown[] } | null);
    expect(edits.slice(0, 2)).toEqual([null, null]);
    const own = edits.slice(2).map((base) => base?.own) as [number, number][][];
    const first = (own[1] as unknown as number[])[0] as number;
    expect(own).toEqual([[], [first], [[first, first + 1]], [[first, first + 2]], [[first, first + 3]], [[first - 1, first + 4]]]);
  });

  test("that the engine refuses goes back, and its promise rejects", async () => {
    const doc = await repo.create(todo());
    const seen: string[] = [];
    doc.subscribe(({ value, origin }) => seen.push(`${origin} ${value.title}`));
    engine.failures.push("store_full");
    const writing = doc.set("title", "Coffee");
    expect(doc.value.title).toBe("Coffee");
    await expect(writing).rejects.toMatchObject({ name: "RejoinError", code: "store_full" });
    await turn();
    expect(doc.value.title).toBe("Tea");
    expect(seen).toEqual(["local Coffee", "remote Tea"]);
    expect(doc.pending).toBe(0);
  });

  test("that cannot be is refused before it shows", async () => {
    const doc = await repo.create(todo());
    const before = doc.value;
    await expect(doc.set("title", undefined as never)).rejects.toMatchObject({ code: "bad_value" });
    await expect(doc.set(["none", "x"], 1)).rejects.toMatchObject({ code: "wrong_path" });
    await expect(doc.set(["items", 7], 1)).rejects.toMatchObject({ code: "wrong_path" });
    await expect(doc.set([-1], 1)).rejects.toMatchObject({ code: "bad_argument" });
    await expect(doc.increment("title")).rejects.toMatchObject({ code: "wrong_path" });
    await expect(doc.text("body").splice(4, 9)).rejects.toMatchObject({ code: "bad_argument" });
    await expect(doc.text("body").join(0)).rejects.toMatchObject({ code: "bad_argument" });
    const failing = doc.change((d) => {
      d.title = "half";
      throw new Error("no");
    });
    await expect(failing).rejects.toThrow("no");
    expect(doc.value).toBe(before);
    expect(asked("edit")).toBeUndefined();
  });

  test("cannot be made while a change of the same document is being made", async () => {
    const doc = await repo.create(todo());
    let inner: Promise<unknown> | undefined;
    const seen: string[] = [];
    const outer = doc.change((d) => {
      d.items.push({ name: "c" });
      inner = doc.set("title", "no");
      inner.catch(() => {});
      seen.push(doc.value.title, String(doc.value.items.length));
      d.items.push({ name: "d" });
      d.title = "Coffee";
    });
    await expect(inner).rejects.toMatchObject({ code: "bad_argument" });
    await outer;
    await turn();
    expect(seen).toEqual(["Tea", "3"]);
    expect(doc.value.title).toBe("Coffee");
    expect(doc.value.items.map(({ name }) => name)).toEqual(["a", "b", "c", "d"]);
    expect(engine.docs.get(doc.id)?.value).toEqual(doc.value);
  });

  test("by a subscriber is told to all after the one that caused it", async () => {
    const doc = await repo.create(todo());
    doc.subscribe(({ value }) => void (value.title === "Coffee" && doc.set("title", "Coffee!")));
    const told: string[] = [];
    doc.subscribe(({ value }) => told.push(value.title));
    await doc.set("title", "Coffee");
    expect(told).toEqual(["Coffee", "Coffee!"]);
  });

  test("that nobody looks at copies nothing, and is there when somebody does", async () => {
    const doc = await repo.create({ map: Object.fromEntries(Array.from({ length: 50 }, (_, n) => [`k${n}`, n])) });
    const before = doc.value;
    for (let round = 0; round < 3000; round++) void doc.set(["map", `k${round % 50}`], round);
    await doc.set(["map", "last"], 1);
    await turn();
    expect(before.map["k0"]).toBe(0);
    expect(doc.get(["map", "k49"])).toBe(2999);
    expect(doc.value).toEqual(engine.docs.get(doc.id)?.value);
    expect(doc.pending).toBe(0);
    expect(Object.isFrozen(doc.value.map)).toBe(true);
  });

  test("of nothing writes nothing", async () => {
    const doc = await repo.create(todo());
    for (const receipt of [await doc.change(() => {}), await doc.delete("done"), await doc.text("body").update("hello")]) {
      expect(receipt.change).toBeNull();
      await receipt.wait("seen");
    }
    expect(asked("edit")).toBeUndefined();
  });

  test("keeps the identity of what it does not touch, also when it is confirmed", async () => {
    const doc = await repo.create(todo());
    const { items } = doc.value;
    await doc.set(["items", 1, "name"], "B");
    const shown = doc.value;
    expect(shown.items[0]).toBe(items[0]);
    expect(shown.items[1]).not.toBe(items[1]);
    await turn();
    expect(doc.value).toBe(shown);
  });

  test("carries what is said of it", async () => {
    const doc = await repo.create(todo());
    await doc.set("title", "x", { message: "why", time: new Date(5) });
    expect(asked("edit")?.[4]).toEqual({ message: "why", time: 5 });
    expect((await doc.history()).at(-1)).toMatchObject({ message: "why", time: new Date(5) });
  });
});

describe("subscribers", () => {
  test("are told of local edits at once, of others once per turn, and of nothing twice", async () => {
    const doc = await repo.create(todo());
    const told: DocumentChange<Todo>[] = [];
    const stop = doc.subscribe((change) => told.push(change));
    const writing = doc.set("title", "Coffee");
    expect(told).toEqual([{ origin: "local", value: doc.value, patches: [{ op: "set", path: ["title"], value: "Coffee" }] }]);
    await writing;
    await turn();
    expect(told).toHaveLength(1);
    engine.remote(doc.id, ["insert", ["items"], 0, [{ name: "z" }]]);
    engine.remote(doc.id, ["splice", ["body"], 5, 0, "!"]);
    await turn();
    expect(told.slice(1)).toEqual([
      {
        origin: "remote",
        value: doc.value,
        patches: [
          { op: "insert", path: ["items"], index: 0, values: [{ name: "z" }] },
          { op: "splice", path: ["body"], index: 5, deleteCount: 0, text: "!" },
        ],
      },
    ]);
    stop();
    stop();
    await doc.set("title", "more");
    expect(told).toHaveLength(2);
  });

  test("are told of first content that is empty, since the state changes", async () => {
    const doc = await repo.create({});
    const id = doc.id;
    doc.close();
    await turn();
    const stored = engine.docs.get(id) as unknown as { versions: unknown[] };
    const versions = stored.versions.splice(0);
    const waiting = await repo.open(id);
    expect(waiting?.state).toBe("waiting");
    const states: string[] = [];
    waiting?.subscribe(({ patches }) => states.push(`${waiting.state} ${patches.length}`));
    stored.versions.push(...versions);
    const told = { e: "patch" as const, doc: id, heads: ["aa"], upTo: 0, origin: "remote" as const, patches: [] };
    engine.tell({ ...told, n: 1 });
    engine.tell({ ...told, n: 2 });
    await turn();
    expect(states).toEqual(["open 0"]);
    engine.tell({ e: "doc", doc: id, kind: "deleted" });
    await turn();
    expect(states).toEqual(["open 0", "deleted 0"]);
  });

  test("that throw do not keep the others from being told", async () => {
    const doc = await repo.create(todo());
    const reported = vi.fn();
    vi.stubGlobal("reportError", reported);
    const second = vi.fn();
    doc.subscribe(() => {
      throw new Error("mine");
    });
    doc.subscribe(second);
    await doc.set("title", "x");
    vi.unstubAllGlobals();
    expect(second).toHaveBeenCalledOnce();
    expect(reported).toHaveBeenCalledOnce();
  });

  test("get patches that lead from what was shown to what is, while own edits are on their way", async () => {
    const slow = new FakeLink(engine, true);
    const opening = Repo.open({ name: "test", link: slow });
    await slow.pump();
    const other = await opening;
    const made = await repo.create(todo());
    const finding = other.find<Todo>(made.id);
    await slow.pump();
    const doc = await finding;
    const patches: unknown[] = [];
    doc.subscribe((change) => patches.push(...change.patches));
    void doc.change((d) => d.items.unshift({ name: "mine" }));
    // This one is told before the engine has seen ours, and waits: the page shows a state that the engine can name.
    engine.remote(doc.id, ["insert", ["items"], 2, [{ name: "theirs" }]]);
    slow.down();
    await turn();
    expect(doc.value.items.map(({ name }) => name)).toEqual(["mine", "a", "b"]);
    await slow.pump();
    expect(doc.value.items.map(({ name }) => name)).toEqual(["mine", "a", "b", "theirs"]);
    expect(patches.at(-1)).toEqual({ op: "insert", path: ["items"], index: 3, values: [{ name: "theirs" }] });
    expect(patches).toHaveLength(2);
  });
});

describe("a text", () => {
  test("is marked, split and pointed into by whole characters", async () => {
    const doc = await repo.create({ body: text("a😀b") });
    const body = doc.text("body");
    const last = (): unknown => engine.calls.filter(([method]) => method === "edit").at(-1)?.[3];
    for (const [start, end, first, behind] of [
      [2, 4, 1, 4],
      [0, 2, 0, 3],
      [2, 2, 1, 1],
    ] as const) {
      await body.mark(start, end, "bold", true).catch(() => {});
      expect(last()).toEqual([["mark", ["body"], first, behind, "bold", true, "after"]]);
      await body.unmark(start, end, "bold").catch(() => {});
      expect(last()).toEqual([["unmark", ["body"], first, behind, "bold", "after"]]);
    }
    await body.cursor(2).catch(() => {});
    expect(engine.calls.at(-1)?.slice(0, 4)).toEqual(["cursor", doc.id, ["body"], 1]);
    await body.split(2, { type: "paragraph" }).catch(() => {});
    expect(last()).toEqual([["split", ["body"], 1, { type: "paragraph" }]]);
    expect(doc.value.body).toBe("a\ufffc😀b");
  });

  test("is spliced by whole characters, wherever a comparison cut", async () => {
    const doc = await repo.create(todo());
    const body = doc.text("body");
    await body.update("a\u{1F44D}\u{1F44E}b");
    // The first of the two is gone; what differs lies between the halves of both.
    await body.splice(2, 2);
    expect([asked("edit")?.[3], body.value]).toEqual([[["splice", ["body"], 1, 4, "\u{1F44E}"]], "a\u{1F44E}b"]);
    await body.apply([
      { index: 4, deleteCount: 0, insert: "\u{1F44D}" },
      { index: 2, deleteCount: 3, insert: "" },
    ]);
    expect(asked("edit")?.[3]).toEqual([
      ["splice", ["body"], 4, 0, "\u{1F44D}"],
      ["splice", ["body"], 1, 5, "\u{1F44D}"],
    ]);
    const { value } = body;
    expect(value).toBe("a\u{1F44D}");
    for (const wrong of [body.splice(1, 1), body.splice(2, 0, "x"), body.splice(0, 0, "\uD83D"), body.update("\uD83Dx")]) {
      await expect(wrong).rejects.toMatchObject({ code: "bad_argument" });
    }
    expect(body.value).toBe(value);
  });

  test("is spliced, updated, marked and split", async () => {
    const doc = await repo.create(todo());
    const body = doc.text("body");
    await body.splice(5, 0, " world");
    await body.update("hello brave world");
    expect(asked("edit")?.[3]).toEqual([["update", ["body"], "hello brave world"]]);
    expect(body.value).toBe("hello brave world");
    await body.mark(0, 5, "bold", true, { expand: "none" });
    expect(asked("edit")?.[3]).toEqual([["mark", ["body"], 0, 5, "bold", true, "none"]]);
    expect(await body.marks()).toEqual([{ start: 0, end: 5, name: "bold", value: true }]);
    await body.unmark(0, 5, "bold");
    expect(await body.spans()).toEqual([{ text: "hello brave world", marks: {} }]);
    await body.split(0, { type: "heading" });
    expect(body.value).toBe("\uFFFChello brave world");
    await body.setBlock(0, { type: "paragraph" });
    await body.join(0);
    expect(doc.value.body).toBe("hello brave world");
    const cursor = await body.cursor(6, "before");
    expect(asked("cursor")).toEqual(["cursor", doc.id, ["body"], 6, { heads: doc.heads, own: [] }, "before"]);
    await body.splice(0, 0, "Oh ");
    expect(await body.position(cursor)).toBe(9);
  });

  test("tells an editor what to splice", async () => {
    const doc = await repo.create(todo());
    let shown = doc.value.body as string;
    const origins: string[] = [];
    doc.text("body").subscribe(({ splices, origin, value }) => {
      for (const { index, deleteCount, insert } of splices) shown = shown.slice(0, index) + insert + shown.slice(index + deleteCount);
      expect(shown).toBe(value);
      origins.push(origin);
    });
    await doc.text("body").splice(0, 1, "H");
    engine.remote(doc.id, ["splice", ["body"], 5, 0, "!"], ["set", ["title"], "not the text"]);
    await turn();
    engine.remote(doc.id, ["set", ["body"], "all new"]);
    await turn();
    engine.remote(doc.id, ["set", ["title"], "again"]);
    await turn();
    expect(shown).toBe("all new");
    expect(origins).toEqual(["local", "remote", "remote"]);
  });
});

describe("a schema", () => {
  const schema: Schema<{ title: string }> = {
    "~standard": {
      version: 1,
      vendor: "test",
      validate: (value) => {
        const { title } = value as { title: unknown };
        return typeof title === "string" ? { value: { title } } : { issues: [{ message: "no title", path: ["title"] }] };
      },
    },
  };

  test("is asked before a document is made and before an edit shows", async () => {
    await expect(repo.create({ title: 5 as unknown as string }, { schema })).rejects.toMatchObject({ code: "bad_value", details: [{ message: "no title" }] });
    const doc = await repo.create({ title: "Tea" }, { schema });
    const before = doc.value;
    await expect(doc.set(["title"], 7)).rejects.toBeInstanceOf(RejoinError);
    expect(doc.value).toBe(before);
    expect(doc.value.title).toBe("Tea");
    expect(doc.valid).toBe(true);
  });

  test("says what came from elsewhere that does not fit", async () => {
    const doc = await repo.create({ title: "Tea" }, { schema });
    engine.remote(doc.id, ["set", ["title"], 7]);
    await turn();
    expect(doc.value.title).toBe(7);
    expect(doc.valid).toBe(false);
    expect(doc.issues).toEqual([{ message: "no title", path: ["title"] }]);
  });

  test("that answers later is refused", async () => {
    const later: Schema<object> = { "~standard": { version: 1, vendor: "test", validate: async (value) => ({ value: value as object }) } };
    await expect(repo.create({}, { schema: later })).rejects.toMatchObject({ code: "unsupported" });
  });
});

describe("history", () => {
  test("is read, compared, restored, forked and merged", async () => {
    const doc = await repo.create(todo());
    const before = doc.heads;
    await doc.set("title", "Coffee");
    await turn();
    expect((await doc.at(before)).title).toBe("Tea");
    expect(await doc.at(before, ["items", 0, "name"])).toBe("a");
    await expect(doc.at(["ff"])).rejects.toMatchObject({ code: "unknown_heads" });
    expect(await doc.diff(before)).toEqual([{ op: "splice", path: ["title"], index: 0, deleteCount: 2, text: "Coff" }].map(() => expect.objectContaining({ path: ["title"] })));
    await doc.restore(before);
    await turn();
    expect(doc.value.title).toBe("Tea");
    const fork = await doc.fork();
    await fork.set("title", "Fork");
    expect(await doc.merge(fork)).toBe(1);
    await turn();
    expect(doc.value.title).toBe("Fork");
    const copy = await repo.import<Todo>(await doc.export());
    expect(copy.value).toEqual(doc.value);
    expect(await doc.conflicts("title")).toEqual([{ id: "1@aa", value: "Fork" }]);
  });
});

test("types say what may be written", async () => {
  const doc = await repo.create(todo());
  const edit = (draft: Draft<Todo>): void => {
    draft.body = "a plain string over a text";
    draft.votes.increment();
    draft.items.push({ name: "c" });
    delete draft.done;
    // @ts-expect-error a title is a string
    if (draft.title === 5) draft.title = 5;
  };
  await doc.change(edit);
  await doc.set("body", "again");
  const body: string = doc.value.body;
  expect(body).toBe("again");
  // @ts-expect-error a snapshot is readonly
  expect(() => (doc.value.items[0] = { name: "x" })).toThrow(TypeError);
  // @ts-expect-error no such field
  doc.get("nothing");
  // @ts-expect-error a title is needed
  const refused = (): unknown => doc.delete("title");
  expect(refused).toBeDefined();
});
