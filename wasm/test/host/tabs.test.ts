import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { FakeTab, World } from "./world.js";
import type { EngineEvent } from "../../ts/page/link.js";

let world: World;
const settle = (ms = 20): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const ask = (tab: FakeTab, method: string, ...args: unknown[]): Promise<unknown> => tab.link.request(method, args).result;

async function tabs(count: number): Promise<FakeTab[]> {
  const all: FakeTab[] = [];
  for (let i = 0; i < count; i++) {
    const tab = new FakeTab(world);
    await tab.link.connected;
    all.push(tab);
  }
  return all;
}

function events(tab: FakeTab): EngineEvent[] {
  const list: EngineEvent[] = [];
  tab.link.onEvent((event) => list.push(event));
  return list;
}

beforeEach(() => {
  world = new World();
  vi.spyOn(console, "error").mockImplementation(() => {});
});
afterEach(() => vi.restoreAllMocks());

describe("signing out", () => {
  const ended = async (tab: FakeTab): Promise<string> =>
    ask(tab, "echo", 1).then(
      () => "works",
      ({ code }: { code: string }) => code,
    );

  it("removes the store before it is answered, and ends all tabs", async () => {
    const [a, b, c] = (await tabs(3)) as [FakeTab, FakeTab, FakeTab];
    await ask(b, "add", "d", 1);
    await ask(b, "signOut", null);
    expect(world.place).toMatchObject({ removed: 1, isComplete: false, isHeld: false });
    await b.link.close();
    await settle();
    expect(world.disk.size()).toBe(0);
    expect([await ended(a), await ended(c)]).toEqual(["signing_out", "signing_out"]);
    await Promise.all([a, b, c].map((tab) => tab.link.close()));
    const [again] = (await tabs(1)) as [FakeTab];
    expect(await ask(again, "get", "d")).toBe(0);
  });

  it("asked for in the leader's tab ends the others, too", async () => {
    const [a, b] = (await tabs(2)) as [FakeTab, FakeTab];
    await ask(a, "signOut", null);
    await settle();
    expect([await ended(a), await ended(b)]).toEqual(["closed", "signing_out"]);
  });

  it("removes nothing when the engine refuses, and says so when the disk does", async () => {
    const [a] = (await tabs(1)) as [FakeTab];
    await ask(a, "add", "d", 1);
    await expect(ask(a, "signOut", "offline_needed")).rejects.toMatchObject({ code: "offline_needed" });
    expect(await ask(a, "get", "d")).toBe(1);
    world.isBroken = true;
    await expect(ask(a, "signOut", null)).rejects.toMatchObject({ code: "store_failed", message: expect.stringContaining("no") });
  });
});

describe("a relay", () => {
  it("cannot be connected to where there is no WebSocket", async () => {
    world.hasNoSockets = true;
    const [a] = (await tabs(1)) as [FakeTab];
    await expect(ask(a, "connect", "wss://relay.example")).rejects.toMatchObject({ code: "unsupported", message: expect.stringContaining("ws") });
    expect(await ask(a, "echo", 1)).toBe(1);
  });
});

describe("one engine for all tabs", () => {
  it("serves three tabs from one file", async () => {
    const [a, b, c] = (await tabs(3)) as [FakeTab, FakeTab, FakeTab];
    await Promise.all([ask(a, "add", "d", 1), ask(b, "add", "d", 10), ask(c, "add", "d", 100)]);
    for (const tab of [a, b, c]) expect(await ask(tab, "get", "d")).toBe(111);
    expect(world.place.opened).toBe(1);
  });

  it("sends the requests of one turn as one message, and says what was answered", async () => {
    const [a] = (await tabs(1)) as [FakeTab];
    await Promise.all([ask(a, "echo", 1), ask(a, "echo", 2), ask(a, "echo", 3)]);
    await ask(a, "echo", 4);
    const sent = a.sent.filter((message) => message.t === "requests");
    expect(sent.map(({ acked, list }) => [acked, list.map(([id]) => id)])).toEqual([
      [0, [1, 2, 3]],
      [3, [4]],
    ]);
  });

  it("carries bytes both ways and the codes of errors", async () => {
    const [, b] = (await tabs(2)) as [FakeTab, FakeTab];
    expect(await b.link.request("echo", [], new Uint8Array([1, 2])).result).toEqual(new Uint8Array([2, 3]));
    await expect(ask(b, "refuse", "wrong_path")).rejects.toMatchObject({ name: "RejoinError", code: "wrong_path" });
    await expect(ask(b, "nonsense")).rejects.toMatchObject({ code: "unsupported" });
  });

  it("tells a tab the patches of what it watches, before the answer to its own write", async () => {
    const [a, b] = (await tabs(2)) as [FakeTab, FakeTab];
    const heard = events(b);
    await ask(b, "open", "d");
    await ask(b, "add", "d", 1);
    expect(heard.filter(({ e }) => e === "patch")).toHaveLength(1);
    await ask(a, "add", "d", 1);
    await settle();
    expect(heard.filter(({ e }) => e === "patch")).toMatchObject([{ n: 1 }, { n: 2 }]);
  });

  it("adds what the host knows to the status", async () => {
    const [a, b] = (await tabs(2)) as [FakeTab, FakeTab];
    expect(await ask(a, "status")).toMatchObject({ state: "none", storage: "opfs", leader: true });
    expect(await ask(b, "status")).toMatchObject({ state: "none", storage: "opfs", leader: false });
  });

  it("passes on what the engine says to a session as it is attached", async () => {
    const [a, b] = (await tabs(2)) as [FakeTab, FakeTab];
    await settle();
    for (const tab of [a, b]) expect(events(tab)).toContainEqual(expect.objectContaining({ e: "status", state: "none", storage: "opfs" }));
  });

  it("turns away a tab that runs another version, with a reason", async () => {
    const [a] = (await tabs(1)) as [FakeTab];
    const said: unknown[] = [];
    const own = world.channel(a, "rejoin:app:other");
    own.onmessage = ({ data }) => said.push(data);
    world.channel(a, "rejoin:app:leader").postMessage({ t: "hello", v: 999, session: "other" });
    await settle();
    expect(said).toMatchObject([{ t: "failed", failure: { code: "store_in_use" } }]);
    expect(await ask(a, "sessions")).toBe(1);
  });

  it("refuses what is too large, and goes on", async () => {
    const [a] = (await tabs(1)) as [FakeTab];
    await expect(a.link.request("echo", [], new Uint8Array((64 << 20) + 1)).result).rejects.toMatchObject({ code: "too_large" });
    expect(await ask(a, "echo", 1)).toBe(1);
  });
});

describe("hand-over", () => {
  it.each([
    ["crashes", (tab: FakeTab): void => world.crash(tab)],
    ["is closed", (tab: FakeTab): void => void tab.link.close()],
    ["is put to sleep", (tab: FakeTab): void => tab.tell({ t: "pause" })],
  ])("takes back what a tab shows that %s, and nothing of others", async (_, end) => {
    const [a, b, c] = (await tabs(3)) as [FakeTab, FakeTab, FakeTab];
    for (const [value, tab] of [a, b, c].entries()) await ask(tab, "show", value);
    expect([await ask(a, "shown"), await ask(a, "sessions")]).toEqual([[0, 1, 2], 3]);
    end(b);
    await vi.waitFor(async () => expect([await ask(a, "shown"), await ask(c, "sessions")]).toEqual([[0, 2], 2]));
  });

  it("loses nothing acknowledged when the leader crashes, and drives again what was under way", async () => {
    const [a, b, c] = (await tabs(3)) as [FakeTab, FakeTab, FakeTab];
    const heard = events(b);
    await ask(b, "open", "d");
    const writes: Promise<unknown>[] = [];
    for (let i = 0; i < 50; i++) writes.push(ask(i % 2 ? b : c, "add", "d", 1));
    await settle(1);
    const waits = [ask(b, "wait", 30), ask(c, "wait", 30)];
    world.crash(a);
    for (let i = 0; i < 50; i++) writes.push(ask(i % 2 ? b : c, "add", "d", 1));
    await Promise.all(writes);
    expect(await Promise.all(waits)).toEqual(["waited", "waited"]);
    expect(await ask(c, "get", "d")).toBe(100);
    expect(await ask(b, "get", "d")).toBe(100);
    expect(heard.filter(({ e }) => e === "engine")).toHaveLength(1);
    expect([await ask(b, "status"), await ask(c, "status")].filter((status) => (status as { leader: boolean }).leader)).toHaveLength(1);
  });

  it("tells a page that asks for nothing of the other engine", async () => {
    const [a, b, c] = (await tabs(3)) as [FakeTab, FakeTab, FakeTab];
    const heard = [events(b), events(c)];
    world.crash(a);
    await vi.waitFor(() => expect(heard.map((list) => list.filter(({ e }) => e === "engine").length)).toEqual([1, 1]));
  });

  it("does so again and again, down to the last tab", async () => {
    const all = await tabs(6);
    let written = 0;
    while (all.length > 1) {
      const writes = all.map((tab) => ask(tab, "add", "d", 1));
      world.crash(all.shift() as FakeTab);
      await Promise.all(writes.slice(1));
      written += all.length;
      expect(await ask(all[0] as FakeTab, "get", "d")).toBeGreaterThanOrEqual(written);
    }
  });

  it("closes the file before another tab opens it when the leader closes in order", async () => {
    const [a, b] = (await tabs(2)) as [FakeTab, FakeTab];
    await ask(a, "add", "d", 1);
    const wait = ask(b, "wait", 30);
    const lost = expect(ask(a, "wait", 1000)).rejects.toMatchObject({ code: "closed" });
    await settle();
    await a.link.close();
    await lost;
    expect(await wait).toBe("waited");
    expect(await ask(b, "get", "d")).toBe(1);
    await expect(ask(a, "get", "d")).rejects.toMatchObject({ code: "closed" });
  });

  it("hands over when the leader's page is put to sleep, and serves it again when it wakes", async () => {
    const [a, b] = (await tabs(2)) as [FakeTab, FakeTab];
    const heard = events(a);
    a.tell({ t: "pause" });
    expect(await ask(b, "add", "d", 1)).toMatchObject({ total: 1 });
    const asked = ask(a, "add", "d", 1);
    await settle();
    expect(await ask(b, "sessions")).toBe(1);
    a.tell({ t: "resume" });
    expect(await asked).toMatchObject({ total: 2 });
    expect(heard.filter(({ e }) => e === "engine")).toHaveLength(1);
    expect(await ask(a, "status")).toMatchObject({ leader: false });
  });

  it("works offline, since a follower has loaded what it takes to lead", async () => {
    const [a, b] = (await tabs(2)) as [FakeTab, FakeTab];
    await settle();
    world.isOffline = true;
    world.crash(a);
    expect(await ask(b, "add", "d", 1)).toMatchObject({ total: 1 });
    expect(b.loads).toBe(1);
  });

  it("waits for the network when it cannot load the engine, if it had one before", async () => {
    const [a] = (await tabs(1)) as [FakeTab];
    world.isOffline = true;
    const b = new FakeTab(world);
    await b.link.connected;
    await settle();
    world.crash(a);
    const asked = ask(b, "add", "d", 1);
    await settle(50);
    world.isOffline = false;
    expect(await asked).toMatchObject({ total: 1 });
    expect(b.restarts).toBe(0);
    world.isOffline = true;
    world.crash(b);
    await expect(new FakeTab(world).link.connected).rejects.toMatchObject({ code: "unsupported" });
  });

  it("tells a follower that slept of its new attachment though the engine is the same", async () => {
    const [, b] = (await tabs(2)) as [FakeTab, FakeTab];
    const heard = events(b);
    b.tell({ t: "pause" });
    await settle();
    b.tell({ t: "resume" });
    await settle();
    expect(heard.filter(({ e }) => e === "engine")).toEqual([{ e: "engine" }]);
    expect(await ask(b, "echo", 1)).toBe(1);
  });

  it("passes on whether there is a network", async () => {
    const [a] = (await tabs(1)) as [FakeTab];
    const heard = events(a);
    a.tell({ t: "online", is: false });
    await settle();
    expect(heard.at(-1)).toMatchObject({ e: "status", state: "offline", storage: "opfs" });
  });
});

describe("traps", () => {
  it("starts another engine from the store, and answers the others' requests", async () => {
    const [a, b] = (await tabs(2)) as [FakeTab, FakeTab];
    await ask(a, "add", "d", 1);
    await ask(a, "trapLater", 5);
    expect(await Promise.all([ask(a, "wait", 20), ask(b, "wait", 20), ask(b, "add", "d", 1)])).toMatchObject(["waited", "waited", { total: 2 }]);
    expect(await ask(b, "get", "d")).toBe(2);
    expect(world.place.opened).toBe(2);
  });

  it("refuses the request that traps again when nothing else is to blame", async () => {
    const [a, b] = (await tabs(2)) as [FakeTab, FakeTab];
    const wait = ask(a, "wait", 30);
    await expect(ask(a, "trap")).rejects.toMatchObject({ code: "trapped" });
    expect(await wait).toBe("waited");
    expect(await ask(b, "echo", 1)).toBe(1);
    expect(world.place.opened).toBe(3);
  });

  it("suspects the document, then quarantines the change, and remembers it", async () => {
    const [a, b] = (await tabs(2)) as [FakeTab, FakeTab];
    await ask(a, "add", "bad", 7);
    await ask(a, "poison", "bad", "ff");
    expect(await ask(b, "get", "bad")).toBe(7);
    expect(world.place.opened).toBe(3);
    expect(world.place.quarantine).toEqual([["bad", "ff"]]);
    world.crash(a);
    expect(await ask(b, "get", "bad")).toBe(7);
    expect(world.place.opened).toBe(4);
  });

  it("gives up for the minute when it traps again and again, and says so", async () => {
    const [a, b] = (await tabs(2)) as [FakeTab, FakeTab];
    const heard = events(b);
    await ask(a, "poison", "bad", "00");
    for (let i = 1; i < 12; i++) void ask(a, "poison", "bad", `0${i}`).catch(() => {});
    await expect(ask(a, "get", "bad")).rejects.toMatchObject({ code: "trapped" });
    await expect(ask(b, "echo", 1)).rejects.toMatchObject({ code: "trapped" });
    expect(heard.at(-1)).toMatchObject({ e: "status", state: "closed", reason: "trapped", error: { code: "trapped" } });
  });
});

describe("a store that does not open", () => {
  it("is made anew when its making was interrupted", async () => {
    world.disk.write(0, new TextEncoder().encode("half"));
    const [a] = (await tabs(1)) as [FakeTab];
    expect(await ask(a, "add", "d", 1)).toMatchObject({ total: 1 });
  });

  it("is left alone when it was ever complete", async () => {
    world.disk.write(0, new TextEncoder().encode("half"));
    world.place.isComplete = true;
    await expect(new FakeTab(world).link.connected).rejects.toMatchObject({ code: "store_damaged" });
    expect(world.disk.size()).toBe(4);
    expect(world.place.isHeld).toBe(false);
  });

  it("is refused to every tab with its reason", async () => {
    world.disk.write(0, new TextEncoder().encode("newer"));
    const all = [new FakeTab(world), new FakeTab(world)];
    for (const tab of all) await expect(tab.link.connected).rejects.toMatchObject({ code: "store_newer" });
  });
});
