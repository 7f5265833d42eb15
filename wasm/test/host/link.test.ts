import { describe, expect, it, vi } from "vitest";
import { PENDING_BYTES_MAX, PENDING_REQUESTS_MAX, REQUEST_BYTES_MAX } from "../../ts/host/limits.js";
import { PageLink } from "../../ts/host/link.js";
import type { Peer } from "../../ts/host/peer.js";
import type { ToPage, ToWorker } from "../../ts/host/messages.js";
import { RejoinError } from "../../ts/page/errors.js";
import type { EngineEvent } from "../../ts/page/link.js";

/** A link whose other end is the test. */
function made(): { link: PageLink; sent: (ToWorker & { t: "requests" })[]; hear(message: ToPage): void; lose(why: RejoinError): void } {
  const sent: (ToWorker & { t: "requests" })[] = [];
  let hear: (message: ToPage) => void = () => {};
  let lose: (why: RejoinError) => void = () => {};
  const link = new PageLink({ name: "app", persist: false }, ({ lost }, to) => {
    [hear, lose] = [to, lost];
    return { post: (message: ToWorker) => message.t === "requests" && sent.push(message), close: async () => {}, end: () => {} } as unknown as Peer;
  });
  return { link, sent, hear: (message) => hear(message), lose: (why) => lose(why) };
}

const turn = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 2));
const engine = (tag: string): ToPage => ({ t: "engine", tag, info: { storage: "opfs" } });

describe("a link", () => {
  it("has a session of 16 random bytes, and ids that rise by one", () => {
    const { link } = made();
    expect(link.session).toMatch(/^[0-9a-f]{32}$/);
    expect([link.request("a", []).id, link.request("a", []).id]).toEqual([1, 2]);
    expect(made().link.session).not.toBe(link.session);
  });

  it("keeps what is asked before there is an engine", async () => {
    const { link, sent, hear } = made();
    const { result } = link.request("a", [1, { b: "ü" }]);
    await turn();
    expect(sent).toEqual([]);
    hear(engine("x"));
    expect(sent).toEqual([{ t: "requests", tag: "x", acked: 0, list: [[1, "a", '[1,{"b":"ü"}]', undefined]] }]);
    hear({ t: "batch", tag: "x", list: [[1, '{"c":2}']] });
    expect(await result).toEqual({ c: 2 });
  });

  it("sends again to another engine what was not answered, in order, and what its news causes after it", async () => {
    const { link, sent, hear } = made();
    const events: EngineEvent[] = [];
    link.onEvent((event) => {
      events.push(event);
      if (event.e === "engine") link.request("open", ["d"]);
    });
    hear(engine("x"));
    for (const name of ["a", "b", "c"]) link.request(name, []);
    await turn();
    hear({ t: "batch", tag: "x", list: [[2, "null"]] });
    link.request("d", []);
    hear(engine("y"));
    expect(events).toEqual([{ e: "engine" }]);
    expect(sent.at(-1)).toMatchObject({ tag: "y", acked: 0 });
    expect(sent.at(-1)?.list.map(([id, name]) => [id, name])).toEqual([[1, "a"], [3, "c"], [4, "d"], [5, "open"]]);
    await turn();
    expect(sent).toHaveLength(2);
  });

  it("says that its store is lost when another leader has made one, and not when the one that did serves it again", () => {
    const { link, hear } = made();
    const events: EngineEvent[] = [];
    link.onEvent((event) => events.push(event));
    const serve = (tag: string, fresh: boolean): void => hear({ t: "engine", tag, info: { storage: "memory", fresh } });
    hear({ t: "batch", tag: "", list: [] });
    serve("a.1", true);
    serve("a.2", true);
    serve("b.1", false);
    serve("c.1", true);
    expect(events.filter(({ e }) => e === "engine")).toEqual([{ e: "engine" }, { e: "engine" }, { e: "engine", lost: true }]);
  });

  it("does not listen to an engine that serves it no more", async () => {
    const { link, hear } = made();
    const events: EngineEvent[] = [];
    link.onEvent((event) => events.push(event));
    hear(engine("x"));
    const { result } = link.request("a", []);
    hear(engine("y"));
    hear({ t: "batch", tag: "x", list: ['{"e":"list"}', [1, '"old"']] });
    hear({ t: "batch", tag: "y", list: [[1, '"new"'], [1, '"twice"'], [77, '"never asked"']] });
    expect(await result).toBe("new");
    expect(events).toEqual([{ e: "engine" }]);
  });

  it("says up to which id everything was answered, refused requests passed over", async () => {
    const { link, sent, hear } = made();
    hear(engine("x"));
    link.request("a", []);
    await expect(link.request("b", [], new Uint8Array(REQUEST_BYTES_MAX)).result).rejects.toMatchObject({ code: "too_large" });
    await turn();
    hear({ t: "batch", tag: "x", list: [[1, "null"]] });
    link.request("c", []);
    await turn();
    expect(sent.at(-1)).toMatchObject({ acked: 2, list: [[3, "c", "[]", undefined]] });
  });

  it("lets the engine forget what it answered while another request waits on", async () => {
    const { link, sent, hear } = made();
    hear(engine("x"));
    const waits = link.request("wait", ["d", 60_000]);
    link.request("a", []);
    await turn();
    hear({ t: "batch", tag: "x", list: [[2, "null"]] });
    link.request("b", []);
    await turn();
    expect(sent.at(-1)).toMatchObject({ acked: 2, list: [[3, "b", "[]", undefined]] });
    hear(engine("y"));
    expect(sent.at(-1)?.list.map(([id]) => id)).toEqual([1, 3]);
    hear({ t: "batch", tag: "y", list: [[1, "true"]] });
    expect(await waits.result).toBe(true);
  });

  it("goes on with the answers when a listener throws", async () => {
    const quiet = vi.spyOn(console, "error").mockImplementation(() => {});
    const { link, hear } = made();
    link.onEvent(() => {
      throw new Error("the application's own");
    });
    hear(engine("x"));
    const { result } = link.request("a", []);
    hear({ t: "batch", tag: "x", list: ['{"e":"list"}', [1, "1"]] });
    expect(await result).toBe(1);
    quiet.mockRestore();
  });

  it.each([-1, 0, 1])("takes a request of the limit and %i bytes, or not", async (more) => {
    const { link, hear } = made();
    hear(engine("x"));
    const { id, result } = link.request("a", [], new Uint8Array(REQUEST_BYTES_MAX - 2 + more));
    hear({ t: "batch", tag: "x", list: [[id, "1"]] });
    if (more > 0) await expect(result).rejects.toMatchObject({ code: "too_large", details: { limit: REQUEST_BYTES_MAX } });
    else expect(await result).toBe(1);
  });

  it("bounds what waits for an answer, in number and in bytes, and takes more when answers come", async () => {
    const { link, hear } = made();
    hear(engine("x"));
    for (let i = 0; i < PENDING_REQUESTS_MAX; i++) link.request("a", []).result.catch(() => {});
    await expect(link.request("a", []).result).rejects.toMatchObject({ code: "too_large" });
    hear({ t: "batch", tag: "x", list: [[1, "null"]] });
    const { id, result } = link.request("a", []);
    hear({ t: "batch", tag: "x", list: [[id, "1"]] });
    expect(await result).toBe(1);
    const other = made();
    const half = new Uint8Array(PENDING_BYTES_MAX / 2 - 2);
    for (let i = 0; i < 2; i++) other.link.request("a", [], half).result.catch(() => {});
    await expect(other.link.request("a", []).result).rejects.toMatchObject({ code: "too_large" });
  });

  it("rejects all there is when the way is lost, and says so in the status", async () => {
    const { link, hear, lose } = made();
    const events: EngineEvent[] = [];
    link.onEvent((event) => events.push(event));
    hear(engine("x"));
    const { result } = link.request("a", []);
    lose(new RejoinError("trapped", "again and again"));
    await expect(result).rejects.toMatchObject({ code: "trapped" });
    await expect(link.request("a", []).result).rejects.toMatchObject({ code: "trapped" });
    expect(events.at(-1)).toMatchObject({ e: "status", state: "closed", error: { code: "trapped" } });
  });

  it("rejects what was asked and never answered when it is closed", async () => {
    const { link, hear } = made();
    hear(engine("x"));
    const { result } = link.request("a", []);
    await Promise.all([link.close(), expect(result).rejects.toMatchObject({ code: "closed" })]);
    await link.close();
  });

  it("gives events that came before anybody listened, in order", () => {
    const { link, hear } = made();
    hear(engine("x"));
    hear({ t: "batch", tag: "x", list: ['{"e":"list"}', '{"e":"status","state":"synced","pending":0}'] });
    const events: EngineEvent[] = [];
    link.onEvent((event) => events.push(event));
    expect(events).toMatchObject([{ e: "list" }, { e: "status", state: "synced", storage: "opfs" }]);
  });
});
