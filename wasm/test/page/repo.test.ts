import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { buildSync } from "esbuild";
import { beforeEach, describe, expect, test, vi } from "vitest";
import { Repo, type Status } from "../../ts/index.js";
import { newId } from "../../ts/page/ids.js";
import { FakeEngine, FakeLink, turn } from "./fake.js";

let engine: FakeEngine;
let link: FakeLink;
let repo: Repo;

beforeEach(async () => {
  engine = new FakeEngine();
  link = new FakeLink(engine);
  repo = await Repo.open({ name: "test", link });
});

const methods = (): string[] => engine.calls.map(([method]) => method);

describe("documents", () => {
  test("are the same object for the same id, until everybody has let go", async () => {
    const made = await repo.create({ a: 1 });
    const found = await repo.find(made.url);
    expect(found).toBe(made);
    made.close();
    expect(found.state).toBe("open");
    found.close();
    found.close();
    expect(found.state).toBe("closed");
    await turn();
    expect(methods().filter((method) => method === "close")).toHaveLength(1);
    await expect(found.set("a", 2)).rejects.toMatchObject({ code: "closed" });
    const again = await repo.find(made.id);
    expect(again).not.toBe(made);
    expect(again.value).toEqual({ a: 1 });
  });

  test("that are not here are found elsewhere, or not in time", async () => {
    const id = newId();
    expect(await repo.open(id)).toBeNull();
    await expect(repo.find(id, { wait: 5 })).rejects.toMatchObject({ code: "timeout" });
    const [here, there] = await Promise.allSettled([repo.open(newId()), repo.find("nonsense")]);
    expect(here).toMatchObject({ value: null });
    expect(there).toMatchObject({ reason: { code: "bad_argument" } });
    const both = newId();
    const opening = repo.open(both);
    const finding = repo.find(both, { wait: 5 });
    expect(await opening).toBeNull();
    await expect(finding).rejects.toMatchObject({ code: "timeout" });
  });

  test("without content are open all the same", async () => {
    const doc = await repo.create({});
    expect(doc.state).toBe("open");
    expect(doc.value).toEqual({});
  });

  test("that are not plain objects, or that the store has no room for, are not made", async () => {
    await expect(repo.create([] as object)).rejects.toMatchObject({ code: "bad_value" });
    await expect(repo.create({ a: undefined })).rejects.toMatchObject({ code: "bad_value" });
    engine.failures.push("store_full");
    await expect(repo.create({ a: 1 })).rejects.toMatchObject({ code: "store_full" });
  });

  test("say that they were deleted", async () => {
    const doc = await repo.create({ a: 1 });
    const told = vi.fn();
    doc.subscribe(told);
    await repo.deleteEverywhere(doc.id);
    await turn();
    expect(doc.state).toBe("deleted");
    expect(told).toHaveBeenCalledOnce();
    await expect(doc.set("a", 2)).rejects.toMatchObject({ code: "deleted" });
    await expect(repo.find(doc.id)).rejects.toMatchObject({ code: "deleted" });
    doc.close();
    doc.close();
    await expect(repo.find(doc.id)).rejects.toMatchObject({ code: "deleted" });
  });

  test("that were deleted here are found anew, while somebody holds the old one", async () => {
    const old = await repo.create({ a: 1 });
    await repo.delete(old.id);
    await turn();
    expect(await repo.open(old.id)).toBeNull();
    await expect(repo.find(old.id)).rejects.toMatchObject({ code: "timeout" });
    engine.remote(old.id, ["set", ["a"], 2]);
    const again = await repo.find(old.id);
    expect(again).not.toBe(old);
    expect([again.state, again.value]).toEqual(["open", { a: 2 }]);
    old.close();
    engine.remote(old.id, ["set", ["a"], 3]);
    await turn();
    expect([old.state, again.value]).toEqual(["closed", { a: 3 }]);
  });

  test("are listed, all and by space, as they come", async () => {
    const space = repo.space();
    expect(repo.space(space.id)).toBe(space);
    const lists: (readonly string[])[] = [];
    const stop = space.subscribe((ids) => lists.push(ids));
    await turn();
    const doc = await space.create({ a: 1 });
    const other = await repo.create({ b: 1 }, { space: space.id });
    await turn();
    expect(doc.space).toBe(space.id);
    expect(lists[0]).toEqual([]);
    expect(lists.at(-1)).toEqual([doc.id, other.id]);
    expect(space.value).toBe(lists.at(-1));
    expect(await space.list()).toBe(space.value);
    expect(await repo.list()).toEqual([doc.id, other.id]);
    stop();
    await space.follow("everything");
    expect(await space.following()).toBe("everything");
    expect(await space.unfetched()).toEqual([]);
    expect(await space.pending()).toBe(0);
    expect(() => repo.space("nonsense")).toThrow(expect.objectContaining({ code: "bad_argument" }));
  });
});

describe("another engine", () => {
  test("brings back nothing that was deleted on this device, and says what was deleted while this page slept", async () => {
    const [deleted, slept, kept] = [await repo.create({ a: 1 }), await repo.create({ b: 2 }), await repo.create({ c: 3 })];
    await repo.delete(deleted.id);
    engine.tell({ e: "doc", doc: deleted.id, kind: "deleted" });
    await turn();
    expect(deleted.state).toBe("deleted");
    engine.docs.delete(slept.id);
    engine.calls.length = 0;
    engine.restart();
    await turn();
    await turn();
    expect(engine.calls.filter(([method]) => method === "open")).toEqual([
      ["open", slept.id, false],
      ["open", kept.id, false],
    ]);
    expect([deleted.state, slept.state, kept.state]).toEqual(["deleted", "deleted", "open"]);
    expect(await repo.list()).toEqual([kept.id]);
    await expect(slept.set("b", 3)).rejects.toMatchObject({ code: "deleted" });
  });

  test("whose store is another has what was open come from elsewhere", async () => {
    const doc = await repo.create({ a: 1 });
    engine.restart(true);
    await turn();
    await turn();
    expect(doc.state).toBe("waiting");
    engine.remote(doc.id, ["set", ["a"], 2]);
    await turn();
    expect([doc.state, doc.value]).toEqual(["open", { a: 2 }]);
  });

  test("does not have what was only looked for here come from elsewhere", async () => {
    const slow = new FakeLink(engine, true);
    const opening = Repo.open({ name: "test", link: slow });
    await turn();
    await slow.pump();
    const looked = (await opening).open(newId());
    await turn();
    engine.restart();
    await slow.pump();
    expect(await looked).toBeNull();
    expect(engine.docs.size).toBe(0);
  });

  test("is told everything again, and no edit is lost or done twice", async () => {
    const slow = new FakeLink(engine, true);
    const opening = Repo.open({ name: "test", relay: "wss://relay.example", token: "t", link: slow });
    await turn();
    await slow.pump();
    const mine = await opening;
    const creating = mine.create({ list: [1], n: 0 });
    await slow.pump();
    const doc = await creating;
    const presence = mine.presence(doc);
    presence.subscribe(() => {});
    void presence.set("name", "Ada");
    await slow.pump();
    const first = doc.change((d) => d.list.push(2));
    const second = doc.change((d) => d.list.push(3));
    // The first reaches the engine, whose answer is lost with it.
    slow.up();
    engine.calls = [];
    engine.restart();
    expect(doc.value.list).toEqual([1, 2, 3]);
    await slow.pump();
    await Promise.all([first, second]);
    await slow.pump();
    expect(doc.value.list).toEqual([1, 2, 3]);
    expect(doc.pending).toBe(0);
    expect(methods()).toEqual(expect.arrayContaining(["edit", "connect", "open", "presenceWatch", "presenceSet", "status"]));
    expect(methods().filter((method) => method === "edit")).toHaveLength(1);
    engine.remote(doc.id, ["set", ["n"], 5]);
    await slow.pump();
    expect(doc.value.n).toBe(5);
  });

  test("says what was deleted meanwhile", async () => {
    const doc = await repo.create({ a: 1 });
    engine.deleted.add(doc.id);
    engine.restart();
    await turn();
    expect(doc.state).toBe("deleted");
  });

  test("is asked again where a patch was missed", async () => {
    const doc = await repo.create({ a: 1 });
    engine.docs.get(doc.id)?.watchers.set(link.session, 7);
    engine.remote(doc.id, ["set", ["a"], 2]);
    await turn();
    expect(doc.value.a).toBe(2);
    engine.remote(doc.id, ["set", ["a"], 3]);
    await turn();
    expect(doc.value.a).toBe(3);
  });
});

describe("the relay", () => {
  const open = (options: object): Promise<Repo> => Repo.open({ name: "test", link: new FakeLink(engine), relay: "wss://relay.example", ...options });

  test("is connected to with the token, which is asked for", async () => {
    await open({ token: async () => "secret", protocol: "rejoin.v1" });
    await turn();
    expect(engine.calls).toContainEqual(["connect", "wss://relay.example", "secret", "rejoin.v1"]);
  });

  test("is not connected to while the repo begins offline", async () => {
    await open({ offline: true });
    const names = methods();
    expect(names.indexOf("setOffline")).toBeLessThan(names.indexOf("connect"));
    expect(engine.calls).toContainEqual(["setOffline", true]);
  });

  test("is left again with each new engine, unless another tab has come back to it", async () => {
    const mine = await open({});
    const offline = (): unknown[] => engine.calls.filter(([method]) => method === "setOffline");
    await mine.setOffline(true);
    engine.tell({ e: "status", state: "offline", pending: 0, storage: "memory" });
    engine.tell({ e: "engine" });
    await turn();
    expect(offline()).toHaveLength(2);
    engine.tell({ e: "status", state: "connecting", pending: 0, storage: "memory" });
    engine.tell({ e: "engine" });
    await turn();
    expect(offline()).toHaveLength(2);
  });

  test("is waited for until this device has what it had, though nothing waits to be sent", async () => {
    const mine = await open({});
    engine.status = { ...engine.status, state: "syncing" };
    let isOver = false;
    const waiting = mine.waitSynced().then(() => (isOver = true));
    await turn();
    await turn();
    expect(isOver).toBe(false);
    await expect(mine.waitSynced(5)).rejects.toMatchObject({ code: "timeout" });
    engine.status = { ...engine.status, state: "synced" };
    engine.tell({ e: "status", ...engine.status });
    await waiting;
    // Nobody is waited for where there is no relay.
    await repo.waitSynced(5);
  });

  test("is no longer waited for when the repo is closed", async () => {
    const mine = await open({});
    engine.status = { ...engine.status, state: "offline" };
    const waiting = mine.waitSynced();
    waiting.catch(() => {});
    await turn();
    await mine.close();
    await expect(waiting).rejects.toMatchObject({ code: "closed" });
  });

  test.each([
    ["a token", "given"],
    ["another way to get one", async () => "given"],
  ])("is connected to at once with %s, however long the one before would have been waited for", async (_, given) => {
    vi.useFakeTimers({ toFake: ["setTimeout"] });
    try {
      for (const failing of [() => Promise.reject(new Error("not signed in")), () => new Promise<string>(() => {})]) {
        const mine = await open({ token: failing });
        await vi.advanceTimersByTimeAsync(100_000);
        engine.calls.length = 0;
        await mine.setToken(given);
        expect(engine.calls).toEqual([["connect", "wss://relay.example", "given", null]]);
        await vi.advanceTimersByTimeAsync(200_000);
        expect(engine.calls).toHaveLength(1);
        await mine.setToken("next");
        expect(engine.calls.at(-1)).toEqual(["setToken", "next"]);
        await mine.close();
      }
    } finally {
      vi.useRealTimers();
    }
  });

  test("gets a new token when it wants one", async () => {
    let made = 0;
    const mine = await open({ token: () => `token ${++made}` });
    await turn();
    for (const pending of [0, 1]) {
      engine.tell({ e: "status", state: "waiting", reason: "it is old", pending, storage: "memory", error: { code: "unauthorized", message: "it is old" } });
    }
    await turn();
    expect(engine.calls.filter(([method]) => method === "setToken")).toEqual([["setToken", "token 2"]]);
    await mine.setToken("given");
    expect(engine.calls).toContainEqual(["setToken", "given"]);
  });

  test("is asked ever less often where it refuses every token, until it takes one", async () => {
    let made = 0;
    await open({ token: () => `token ${++made}` });
    await turn();
    vi.useFakeTimers({ toFake: ["setTimeout"] });
    vi.spyOn(Math, "random").mockReturnValue(1);
    try {
      const given = () => engine.calls.filter(([method]) => method === "setToken").length;
      const tell = async (state: "connecting" | "synced" | "waiting") => {
        const error = { code: "unauthorized", message: "it is old" } as const;
        engine.tell({ e: "status", state, pending: 0, storage: "memory", ...(state === "waiting" && { error }) });
        await vi.advanceTimersByTimeAsync(10);
      };
      await tell("waiting");
      expect(given()).toBe(1);
      for (const [round, seconds] of [1, 2, 4, 8, 16, 32, 60, 60].entries()) {
        await tell("connecting");
        await tell("waiting");
        await vi.advanceTimersByTimeAsync(seconds * 1000 - 100);
        expect(given()).toBe(round + 1);
        await vi.advanceTimersByTimeAsync(200);
        expect(given()).toBe(round + 2);
      }
      await tell("synced");
      await tell("waiting");
      expect(given()).toBe(10);
    } finally {
      vi.restoreAllMocks();
      vi.useRealTimers();
    }
  });

  test("is shown a new token in time before the last one ends, without a break", async () => {
    let made = 0;
    await open({ token: () => `token ${++made}` });
    await turn();
    vi.useFakeTimers({ toFake: ["setTimeout"] });
    try {
      const tell = (tokenEndsIn: number) => engine.tell({ e: "status", state: "synced", pending: 0, storage: "memory", tokenEndsIn });
      const renewed = () => engine.calls.filter(([method]) => method === "renewToken");
      tell(10_000);
      tell(9_000);
      await vi.advanceTimersByTimeAsync(7_900);
      expect(renewed()).toEqual([]);
      await vi.advanceTimersByTimeAsync(200);
      expect(renewed()).toEqual([["renewToken", "token 2"]]);
      tell(20_000);
      await vi.advanceTimersByTimeAsync(16_100);
      expect(renewed()).toEqual([
        ["renewToken", "token 2"],
        ["renewToken", "token 3"],
      ]);
    } finally {
      vi.useRealTimers();
    }
  });

  test("is tried again when no token could be had, and the status says why", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout"] });
    try {
      let made = 0;
      const mine = await open({
        token: () => {
          if (++made < 3) throw new Error("no network");
          return "late";
        },
      });
      await vi.advanceTimersByTimeAsync(10);
      expect(mine.status.error).toMatchObject({ code: "refused", message: expect.stringContaining("no network") });
      await vi.advanceTimersByTimeAsync(4000);
      expect(engine.calls).toContainEqual(["connect", "wss://relay.example", "late", null]);
    } finally {
      vi.useRealTimers();
    }
  });
});

describe("the status", () => {
  test("is another object each time it changes", async () => {
    expect(repo.status).toEqual({ state: "none", pending: 0, storage: "memory" });
    const told: Status[] = [];
    repo.subscribe((status) => told.push(status));
    const progress = { done: 1, total: 3, bytesDone: 10, bytesTotal: 30 };
    engine.tell({ e: "status", state: "syncing", progress, pending: 2, storage: "opfs", persisted: true });
    engine.tell({ e: "status", state: "waiting", retryIn: 500, reason: "no route", pending: 2, storage: "opfs", error: { code: "store_full", message: "no room" } });
    engine.tell({ e: "pending", total: 9, docs: {} });
    await turn();
    expect(told[0]).toEqual({ state: "syncing", progress, pending: 2, storage: "opfs", persisted: true });
    expect(told[1]).toMatchObject({ state: "offline", retryIn: 500, reason: "no route", error: { code: "store_full" } });
    expect(told[2]).toMatchObject({ state: "offline", pending: 9 });
    expect(repo.status).toBe(told[2]);
    expect(Object.isFrozen(repo.status)).toBe(true);
  });
});

describe("who has unsubscribed", () => {
  test("is told nothing more, not even of what is being told to others", async () => {
    const stops: (() => void)[] = [];
    const told: string[] = [];
    for (const name of ["first", "second"]) {
      stops.push(
        repo.subscribe(() => {
          told.push(name);
          for (const stop of stops) stop();
        }),
      );
    }
    engine.tell({ e: "status", state: "connecting", pending: 0, storage: "memory" });
    await turn();
    expect(told).toEqual(["first"]);
    await repo.list();
    repo.documents.subscribe(() => told.push("list"))();
    await turn();
    expect(told).toEqual(["first"]);
  });
});

describe("presence", () => {
  test("is shown, told and taken back", async () => {
    const doc = await repo.create({ a: 1 });
    const presence = repo.presence(doc);
    const told = vi.fn();
    const stop = presence.subscribe(told);
    await presence.set("cursor", { at: 3 }, { ttl: 1000 });
    await turn();
    expect(engine.calls).toContainEqual(["presenceSet", doc.id, "cursor", { at: 3 }, 1000]);
    expect(presence.values).toEqual([{ author: link.session, key: "cursor", value: { at: 3 }, own: true, since: new Date(1) }]);
    const [before] = presence.values;
    await presence.set("name", "Ada");
    await turn();
    expect(presence.values).toHaveLength(2);
    expect(presence.values[0]).toEqual(before);
    await presence.clear("cursor");
    await turn();
    expect(presence.values.map(({ key }) => key)).toEqual(["name"]);
    stop();
    await turn();
    expect(methods().at(-1)).toBe("presenceUnwatch");
    expect(repo.presence(doc.id)).toBe(presence);
  });
});

describe("rejected writes", () => {
  test("are listed, retried, dropped and saved", async () => {
    const doc = await repo.create({ a: 1 });
    const lists: number[] = [];
    repo.rejected.subscribe((writes) => lists.push(writes.length));
    engine.rejections = ["aa", "bb"].map((change) => ({ doc: doc.id, change, code: "too_large", text: "too large" }));
    engine.tell({ e: "doc", doc: doc.id, kind: "rejected" });
    await turn();
    const [first, second] = repo.rejected.value ?? [];
    expect(first).toMatchObject({ doc: doc.id, change: "aa", code: "too_large", text: "too large" });
    await first?.retry();
    const branch = await second?.drop();
    expect(await branch?.export()).toEqual(new Uint8Array([1, 2, 3]));
    await branch?.forget();
    expect(await repo.rejected.dropped(doc.id)).toEqual([]);
    await turn();
    expect(lists.at(-1)).toBe(0);
  });
});

describe("closing", () => {
  test("waits for edits on their way, then refuses everything", async () => {
    const doc = await repo.create({ a: 1 });
    const writing = doc.set("a", 2);
    const closing = repo.close();
    await expect(writing).resolves.toMatchObject({ stage: "local" });
    await closing;
    expect(link.closed).toBe(true);
    expect(doc.state).toBe("closed");
    await expect(repo.list()).rejects.toMatchObject({ code: "closed" });
    await expect(doc.set("a", 3)).rejects.toMatchObject({ code: "closed" });
    await repo.close();
  });

  test("comes after signing out", async () => {
    await repo.signOut({ wait: 5 });
    expect(methods()).toContain("signOut");
    expect(link.closed).toBe(true);
  });
});

test("importing the package does nothing, also where there is no page", () => {
  const directory = fileURLToPath(new URL("../../", import.meta.url));
  const bundle = `${directory}node_modules/.rejoin-test/index.mjs`;
  buildSync({ entryPoints: [`${directory}ts/index.ts`], bundle: true, format: "esm", outfile: bundle, external: ["node:*", "*/host/link.js"] });
  const script = `
    const before = Object.keys(globalThis).length;
    const { Repo } = await import(${JSON.stringify(bundle)});
    const busy = process.getActiveResourcesInfo().filter((name) => /Timeout|Worker|MessagePort/.test(name));
    console.log(typeof Repo.open, Object.keys(globalThis).length - before, busy.length);
  `;
  const said = execFileSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" });
  expect(said.trim()).toBe("function 0 0");
});
