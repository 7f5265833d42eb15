import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { NodePlace, readWasm } from "../../ts/host/node.js";
import { PageLink } from "../../ts/host/link.js";
import { nodeAround, startWith } from "../../ts/host/inside.js";
import type { Peer } from "../../ts/host/peer.js";
import { makeGlue } from "./fake-engine.js";
import { noWasm } from "./world.js";

let directory: string;
beforeEach(() => void (directory = mkdtempSync(join(tmpdir(), "rejoin-node-"))));
afterEach(() => rmSync(directory, { recursive: true, force: true }));

/** A link as in Node, with the engine of counters in this thread. */
async function open(storage: "auto" | "memory" = "auto"): Promise<PageLink> {
  const link = new PageLink({ name: "app", storage, directory }, ({ session }, hear) => {
    let closed = (): void => {};
    const start = { t: "start", name: "app", session, storage, directory, wasm: noWasm } as const;
    const post = startWith(start, (message) => (message.t === "closed" ? closed() : hear(message)), nodeAround(makeGlue));
    const close = (): Promise<void> =>
      new Promise((resolve) => {
        closed = resolve;
        post({ t: "close" });
      });
    return { post, close, end: () => {} } as unknown as Peer;
  });
  await link.connected;
  return link;
}

const ask = (link: PageLink, method: string, ...args: unknown[]): Promise<unknown> => link.request(method, args).result;

describe("the engine's own WASM", () => {
  it("is compiled once for all repos of a process, and what an application brings for each", async () => {
    const around = nodeAround(makeGlue);
    const serve = async (name: string, wasm?: Uint8Array) =>
      (await around.serve({ t: "start", name, session: "s", storage: "memory", directory, wasm })).load;
    expect(await serve("a")).toBe(await serve("b"));
    expect(await serve("a", noWasm)).not.toBe(await serve("a"));
  });
});

describe("a store in a file", () => {
  it("is there again when it is opened again, and leaves nothing else behind", async () => {
    const first = await open();
    await ask(first, "add", "d", 3);
    expect(await ask(first, "status")).toMatchObject({ storage: "file" });
    await first.close();
    expect(readdirSync(directory)).toEqual(["app.redb"]);
    const second = await open();
    expect(await ask(second, "get", "d")).toBe(3);
    await second.close();
  });

  it("is gone with all that belongs to it after signing out", async () => {
    const first = await open();
    await ask(first, "add", "d", 3);
    await ask(first, "signOut");
    expect(readdirSync(directory)).toEqual([]);
    const second = await open();
    expect(await ask(second, "get", "d")).toBe(0);
    await second.close();
  });

  it("is refused to a second repo, and free when the first is closed", async () => {
    const first = await open();
    await expect(open()).rejects.toMatchObject({ code: "store_in_use" });
    await first.close();
    await (await open()).close();
  });

  it("keeps its journal when a second repo is refused", async () => {
    const place = new NodePlace(directory, "app");
    const { journal } = await place.open();
    const refused = new NodePlace(directory, "app");
    await expect(refused.open()).rejects.toMatchObject({ code: "store_in_use" });
    await refused.release();
    expect(readdirSync(directory)).toContain("app.redb.rejoin-journal");
    journal.close();
    await place.release();
    expect(readdirSync(directory)).not.toContain("app.redb.rejoin-journal");
  });

  it("restarts after a trap on the same file", async () => {
    const quiet = vi.spyOn(console, "error").mockImplementation(() => {});
    const link = await open();
    await ask(link, "add", "bad", 7);
    await ask(link, "poison", "bad", "ff");
    await ask(link, "trapLater", 1);
    expect(await ask(link, "wait", 20)).toBe("waited");
    expect(await ask(link, "get", "bad")).toBe(7);
    expect(JSON.parse(readFileSync(join(directory, "app.redb.quarantine"), "utf8"))).toEqual([["bad", "ff"]]);
    await link.close();
    quiet.mockRestore();
  });

  it("is in memory when that was asked for", async () => {
    const link = await open("memory");
    await ask(link, "add", "d", 1);
    expect(await ask(link, "status")).toMatchObject({ storage: "memory" });
    await link.close();
    expect(readdirSync(directory)).toEqual([]);
  });

  it("starts afresh when its making was interrupted, and only then", async () => {
    writeFileSync(join(directory, "app.redb.new"), "half");
    const link = await open();
    await ask(link, "add", "d", 1);
    await link.close();
    writeFileSync(join(directory, "app.redb"), "half");
    await expect(open()).rejects.toMatchObject({ code: "store_damaged" });
    expect(readFileSync(join(directory, "app.redb"), "utf8")).toBe("half");
    expect(existsSync(join(directory, "app.redb.lock"))).toBe(false);
  });

  it("survives its process being killed, with all that was acknowledged", { timeout: 60_000 }, async () => {
    for (let round = 0; round < 3; round++) {
      const acknowledged = await killedWriter(5 + round * 20);
      const link = await open();
      expect(await ask(link, "get", "d")).toBeGreaterThanOrEqual(acknowledged);
      await link.close();
    }
  });
});

/** Runs a process that writes and prints what is acknowledged, kills it after some lines, and gives the last of them. */
function killedWriter(lines: number): Promise<number> {
  const child = spawn(process.execPath, [fileURLToPath(new URL("./writer.mjs", import.meta.url)), directory]);
  return new Promise((resolve, reject) => {
    let text = "";
    let errors = "";
    child.stderr.on("data", (data) => (errors += data));
    child.stdout.on("data", (data) => {
      text += data;
      if (text.split("\n").length > lines) child.kill("SIGKILL");
    });
    child.on("exit", (code, signal) => {
      const last = text.split("\n").at(-2);
      if (signal === "SIGKILL") resolve(Number(last));
      else reject(new Error(`the writer ended with ${code}: ${errors}`));
    });
  });
}

describe("the lock of a file", () => {
  const lock = (): string => join(directory, "app.redb.lock");

  it("of a process that is no more is taken over", async () => {
    const child = spawn(process.execPath, ["-e", "0"]);
    await new Promise((resolve) => child.on("exit", resolve));
    writeFileSync(lock(), JSON.stringify({ pid: child.pid, start: "" }));
    await (await open()).close();
  });

  it("of an earlier process with our id is taken over", async () => {
    writeFileSync(lock(), JSON.stringify({ pid: process.pid, start: "another boot/1" }));
    await (await open()).close();
  });

  it("of a living process is respected", async () => {
    writeFileSync(lock(), JSON.stringify({ pid: process.ppid, start: "" }));
    await expect(open()).rejects.toMatchObject({ code: "store_in_use" });
    expect(existsSync(lock())).toBe(true);
  });

  it("goes to exactly one of many who find it stale", async () => {
    writeFileSync(lock(), JSON.stringify({ pid: process.pid, start: "another boot/1" }));
    const places = Array.from({ length: 8 }, () => new NodePlace(directory, "app"));
    const opened = await Promise.allSettled(places.map((place) => place.open()));
    expect(opened.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    for (const result of opened) if (result.status === "fulfilled") result.value.file.close();
  });
});

describe("the WASM of a file", () => {
  it("is read, and an address of the network is left to fetch", () => {
    const path = join(directory, "x.wasm");
    writeFileSync(path, noWasm);
    expect(readWasm(path)).toEqual(Buffer.from(noWasm));
    expect(readWasm("https://example.org/x.wasm")).toBe("https://example.org/x.wasm");
  });
});
