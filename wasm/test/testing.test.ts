import { describe, expect, it } from "vitest";
import { Repo } from "../ts/index.js";
import { createTestRepo, exchange, settle, showPresence, showStatus } from "../ts/testing.js";
import { FakeEngine, FakeLink } from "./page/fake.js";

const open = (engine = new FakeEngine()): Promise<Repo> => createTestRepo({ link: new FakeLink(engine) });

describe("rejoin/testing", () => {
  it("settles when every edit is safe and told", async () => {
    const repo = await open();
    const doc = await repo.create({ n: 0 });
    const told: number[] = [];
    doc.subscribe(({ value }) => told.push(value.n));
    void doc.set("n", 1).then(() => doc.set("n", 2));
    await settle(repo);
    expect(doc.pending).toBe(0);
    expect(told).toContain(2);
  });

  it("settles though somebody waits for what never comes", async () => {
    const engine = new FakeEngine();
    const link = new FakeLink(engine);
    const answer = engine.answer.bind(engine);
    const repo = await createTestRepo({ link });
    engine.answer = (from, id, method, args, bytes) => (method === "synced" ? { value: null } : answer(from, id, method, args, bytes));
    void repo.waitSynced().catch(() => {});
    await settle(repo);
  });

  it("exchanges documents under their ids, and merges those that both have", async () => {
    const [ada, bob] = [await open(), await open()];
    const hers = await ada.create<Record<string, unknown>>({ title: "Tea" });
    const other = await bob.create({ title: "Milk" });
    await exchange(ada, bob);
    const his = await bob.find<Record<string, unknown>>(hers.id);
    expect(his.value).toEqual({ title: "Tea" });
    expect((await ada.find(other.id)).value).toEqual({ title: "Milk" });
    await hers.set("title", "Coffee");
    await exchange(ada, bob, [hers.url]);
    expect(his.value).toEqual({ title: "Coffee" });
    expect([...(await ada.list())].sort()).toEqual([...(await bob.list())].sort());
    expect((await ada.list()).length).toBe(2);
  });

  it("shows others beside what the repo itself shows", async () => {
    const repo = await open();
    const doc = await repo.create({ n: 0 });
    const presence = repo.presence(doc);
    const stop = presence.subscribe(() => {});
    await presence.set("name", "Ada");
    showPresence(repo, doc, [{ author: "bob", key: "name", value: { full: "Bob" }, since: new Date(5) }]);
    await settle(repo);
    expect(presence.values).toMatchObject([
      { value: "Ada", own: true },
      { author: "bob", value: { full: "Bob" }, own: false, since: new Date(5) },
    ]);
    showPresence(repo, doc.id, []);
    expect(presence.values).toMatchObject([{ value: "Ada" }]);
    stop();
  });

  it("shows a status", async () => {
    const repo = await open();
    showStatus(repo, { state: "offline", reason: "no route", pending: 3 });
    expect(repo.status).toMatchObject({ state: "offline", reason: "no route", pending: 3, storage: "memory" });
  });

  it("works for its own repos only", async () => {
    const repo = await Repo.open({ name: "another", link: new FakeLink(new FakeEngine()) });
    await expect(settle(repo)).rejects.toThrow("createTestRepo");
  });
});
