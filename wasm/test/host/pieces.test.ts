import { createServer } from "node:http";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import WebSocketOfWs, { WebSocketServer } from "ws";
import { compile, engineLoader, guarded } from "../../ts/host/engine.js";
import { MemoryFile, MemoryPlace } from "../../ts/host/memory.js";
import { browserAround } from "../../ts/host/around.js";
import { OPFS_TRIES } from "../../ts/host/limits.js";
import { failure } from "../../ts/host/messages.js";
import { opfsPlace, readChangeNames } from "../../ts/host/opfs.js";
import { RejoinError } from "../../ts/page/errors.js";
import { PageStatus } from "../../ts/host/status.js";
import { nodeWebSocket } from "../../ts/host/node.js";
import { Sockets, type MakeWebSocket } from "../../ts/host/socket.js";
import { Traps } from "../../ts/host/trap.js";
import type { WireStatus } from "../../ts/page/link.js";
import { makeGlue } from "./fake-engine.js";
import { noWasm } from "./world.js";

const bytes = (...all: number[]): Uint8Array => new Uint8Array(all);

describe("a file in memory", () => {
  it("reads what was written, and zeros where nothing was", () => {
    const file = new MemoryFile();
    file.write(3, bytes(1, 2));
    expect(file.size()).toBe(5);
    const into = new Uint8Array(9);
    expect(file.read(0, into)).toBe(5);
    expect(into).toEqual(bytes(0, 0, 0, 1, 2, 0, 0, 0, 0));
    expect(file.read(7, into)).toBe(0);
  });

  it("forgets what was cut off", () => {
    const file = new MemoryFile();
    file.write(0, bytes(1, 2, 3, 4));
    file.truncate(2);
    file.truncate(4);
    const into = new Uint8Array(4);
    file.read(0, into);
    expect(into).toEqual(bytes(1, 2, 0, 0));
  });

  it("grows over its steps and keeps everything", () => {
    const file = new MemoryFile();
    for (let at = 0; at < 5 << 20; at += 1 << 18) file.write(at, bytes(at >> 18));
    const into = new Uint8Array(1);
    for (let at = 0; at < 5 << 20; at += 1 << 18) {
      file.read(at, into);
      expect(into[0]).toBe(at >> 18);
    }
  });

  it("is thrown away only while no engine has opened it", async () => {
    const place = new MemoryPlace();
    (await place.open()).file.write(0, bytes(1));
    expect(await place.discard()).toBe(true);
    expect((await place.open()).file.size()).toBe(0);
    await place.completed();
    expect(await place.discard()).toBe(false);
  });
});

describe("after a trap", () => {
  it("a document is suspected first, and a change is quarantined only when it trapped alone", () => {
    const traps = new Traps();
    expect(traps.trapped({ doc: "d", hash: "x" }, [])).toBe(false);
    expect(traps.suspect).toEqual(["d", "x"]);
    expect(traps.trapped({ doc: "d", hash: "y" }, [])).toBe(true);
    expect(traps.quarantined).toEqual([["d", "y"]]);
  });

  it("a request is to blame when it was there twice and no document was worked on", () => {
    const traps = new Traps();
    traps.trapped({ doc: null, hash: null }, ["a:1", "b:1"]);
    expect(traps.isToBlame("a:1")).toBe(false);
    traps.trapped({ doc: null, hash: null }, ["a:1"]);
    expect([traps.isToBlame("a:1"), traps.isToBlame("b:1")]).toEqual([true, false]);
  });

  it("a change that is quarantined already is not blamed again, but the request is", () => {
    const traps = new Traps([["d", "x"]]);
    traps.trapped({ doc: "d", hash: null }, ["a:1"]);
    expect(traps.trapped({ doc: "d", hash: "x" }, ["a:1"])).toBe(false);
    expect(traps.trapped({ doc: "d", hash: "x" }, ["a:1"])).toBe(false);
    expect(traps.isToBlame("a:1")).toBe(true);
  });

  it.each([7, 8, 9])("restart %i within a minute is allowed up to the limit", (count) => {
    const traps = new Traps();
    for (let i = 1; i < count; i++) traps.mayRestart(i);
    expect(traps.mayRestart(count)).toBe(count <= 8);
    expect(traps.mayRestart(60_002)).toBe(true);
  });

  it("the quarantine keeps to its bound", () => {
    const traps = new Traps(Array.from({ length: 2000 }, (_, i) => ["d", `${i}`] as [string, string]));
    expect(traps.quarantined).toHaveLength(1024);
    expect(traps.quarantined.at(-1)).toEqual(["d", "1999"]);
  });

  it("a torn quarantine file does not keep the store from opening", () => {
    expect(readChangeNames('[["d","x"],7,["e"]]')).toEqual([["d", "x"]]);
    expect(readChangeNames('[["d","x"')).toEqual([]);
    expect(readChangeNames("{}")).toEqual([]);
  });
});

describe("an instance", () => {
  it("reports a trap of its own timers, and is silent once it is dead", async () => {
    const traps: unknown[] = [];
    const timers = guarded((error) => traps.push(error));
    timers.setTimeout(() => {
      throw new Error("one");
    });
    timers.queueMicrotask(() => {
      throw new Error("two");
    });
    await new Promise((resolve) => setTimeout(resolve, 10));
    expect(traps.map(String).sort()).toEqual(["Error: one", "Error: two"]);
    const ran = vi.fn();
    timers.setTimeout(ran);
    timers.queueMicrotask(ran);
    timers.kill();
    await new Promise((resolve) => setTimeout(resolve, 10));
    expect(ran).not.toHaveBeenCalled();
  });

  it("is made of a module that is fetched, with and without streaming", async () => {
    const server = createServer((request, response) => {
      if (request.url === "/none") response.writeHead(404).end();
      else response.writeHead(200, { "content-type": request.url === "/plain" ? "text/plain" : "application/wasm" }).end(noWasm);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const at = (path: string): string => `http://127.0.0.1:${(server.address() as { port: number }).port}${path}`;
    try {
      expect(await compile(at("/x"))).toBeInstanceOf(WebAssembly.Module);
      expect(await compile(new URL(at("/plain")))).toBeInstanceOf(WebAssembly.Module);
      const module = await compile(noWasm);
      expect(await compile(module)).toBe(module);
      await expect(engineLoader(makeGlue, at("/none"))(() => {})).rejects.toMatchObject({ code: "unsupported" });
    } finally {
      server.close();
    }
  });

  it("that could not be loaded is loaded at the next attempt", async () => {
    let attempts = 0;
    const load = engineLoader(makeGlue, () => (attempts++ === 0 ? bytes(1) : noWasm));
    await expect(load(() => {})).rejects.toMatchObject({ code: "unsupported" });
    await load(() => {});
    await load(() => {});
    expect(attempts).toBe(2);
  });
});

describe("sockets", () => {
  let server: WebSocketServer;
  let url: string;
  beforeEach(async () => {
    server = new WebSocketServer({ port: 0, host: "127.0.0.1", handleProtocols: () => "rejoin.v1" });
    await new Promise((resolve) => server.on("listening", resolve));
    url = `ws://127.0.0.1:${(server.address() as { port: number }).port}`;
    server.on("connection", (socket) => socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary })));
  });
  afterEach(() => {
    for (const client of server.clients) client.terminate();
    server.close();
  });

  const made = (): { sockets: Sockets; traps: unknown[] } => {
    const traps: unknown[] = [];
    return { sockets: new Sockets(nodeWebSocket(import.meta.url) as MakeWebSocket, (error) => traps.push(error)), traps };
  };

  it("carry bytes, and the bytes as they were when they were sent", async () => {
    const { sockets } = made();
    const data = bytes(1, 2, 3);
    const heard = await new Promise((resolve, reject) => {
      const socket = sockets.open(url, ["rejoin.v1"], {
        open: (protocol) => {
          expect(protocol).toBe("rejoin.v1");
          expect(socket.send(data)).toBe(true);
          data.fill(9);
        },
        message: resolve,
        close: () => reject(new Error("closed")),
      });
      expect(socket.send(data)).toBe(false);
      expect(socket.buffered()).toBe(0);
    });
    expect(heard).toEqual(bytes(1, 2, 3));
    sockets.closeAll();
  });

  it("tell of text as null, and of their end", async () => {
    server.on("connection", (socket) => {
      socket.send("text");
      socket.close(4001, "enough");
    });
    const { sockets } = made();
    const heard: unknown[] = [];
    await new Promise<void>((resolve) => {
      sockets.open(url, [], {
        open: () => {},
        message: (data) => heard.push(data),
        close: (code, reason) => {
          heard.push(code, reason);
          resolve();
        },
      });
    });
    expect(heard).toEqual([null, 4001, "enough"]);
  });

  it("that cannot be made are closed, and never within the call", async () => {
    const refuse = (): never => {
      throw new Error("no ws");
    };
    const sockets = new Sockets(refuse, () => {});
    const close = vi.fn();
    const socket = sockets.open("ws://x", [], { open: () => {}, message: () => {}, close });
    expect(close).not.toHaveBeenCalled();
    expect(socket.send(bytes(1))).toBe(false);
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(close).toHaveBeenCalledWith(1006, expect.stringContaining("ws"));
    const { sockets: real } = made();
    const wrong = new Promise((resolve) => real.open("not an address", [], { open: () => {}, message: () => {}, close: resolve }));
    expect(await wrong).toBe(1006);
  });

  it("report a trap of the engine that hears them, and say nothing to a dead one", async () => {
    const { sockets, traps } = made();
    await new Promise<void>((resolve) => {
      sockets.open(url, [], {
        open: () => {
          setTimeout(resolve, 5);
          throw new Error("trapped");
        },
        message: () => {},
        close: () => {},
      });
    });
    expect(traps.map(String)).toEqual(["Error: trapped"]);
    const close = vi.fn();
    await new Promise<void>((resolve) => sockets.open(url, [], { open: resolve as () => void, message: () => {}, close }));
    sockets.closeAll();
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(close).not.toHaveBeenCalled();
    expect(server.clients.size).toBe(0);
  });

  it("are those of the package ws where Node has none", () => {
    vi.stubGlobal("WebSocket", undefined);
    try {
      const socket = nodeWebSocket(import.meta.url)?.(url, []);
      expect(socket).toBeInstanceOf(WebSocketOfWs);
      (socket as unknown as WebSocketOfWs).on("error", () => {});
      socket?.close();
      // A folder from which the package is not found.
      expect(nodeWebSocket("file:///nowhere/index.js")).toBeNull();
    } finally {
      vi.unstubAllGlobals();
    }
  });
});

describe("a failure", () => {
  it("has a code of ours, whoever made it", () => {
    const code = (own: unknown): string => failure({ code: own, message: "why" }).code;
    expect(["quota", "EACCES", "EROFS", "store_in_use", "ERR_OTHER", 25, undefined].map(code)).toEqual([
      "store_full",
      "store_failed",
      "store_failed",
      "store_in_use",
      "internal",
      "internal",
      "internal",
    ]);
    expect(failure("why", "trapped")).toEqual({ code: "trapped", message: "why" });
    expect(RejoinError.from({ code: "quota", message: "full" }).code).toBe("store_full");
  });
});

describe("the surroundings of a worker", () => {
  afterEach(() => vi.unstubAllGlobals());

  it("give a store in memory that is the same each time it leads", async () => {
    vi.stubGlobal("navigator", {});
    const around = browserAround((() => {}) as never, () => new URL("https://example.org/x.wasm"));
    const start = { t: "start", name: "app", session: "s", storage: "auto" } as const;
    const [first, second] = [await around.serve(start), await around.serve(start)];
    expect(first.place.kind).toBe("memory");
    expect(second.place).toBe(first.place);
  });
});

describe("OPFS", () => {
  afterEach(() => vi.unstubAllGlobals());

  /** A directory with one kind of trouble. */
  function browser(handle: object | (() => object)): { files: Set<string> } {
    const files = new Set<string>();
    const directory = {
      getDirectoryHandle: async () => directory,
      getFileHandle: async (name: string, options?: { create?: boolean }) => {
        if (!options?.create && !files.has(name)) throw new DOMException("none", "NotFoundError");
        files.add(name);
        return { createSyncAccessHandle: async () => (typeof handle === "function" ? (handle as () => object)() : handle) };
      },
      removeEntry: async (name: string) => void files.delete(name),
    };
    vi.stubGlobal("FileSystemFileHandle", { prototype: { createSyncAccessHandle: () => {} } });
    vi.stubGlobal("navigator", { storage: { getDirectory: async () => directory } });
    return { files };
  }

  it("is not there without a directory, or where it is denied", async () => {
    vi.stubGlobal("navigator", {});
    expect(await opfsPlace("app")).toBeNull();
    browser({});
    vi.stubGlobal("navigator", { storage: { getDirectory: () => Promise.reject(new DOMException("private", "SecurityError")) } });
    expect(await opfsPlace("app")).toBeNull();
  });

  it("is asked for again after an error that may pass, and is no memory that looks like lost data if it does not", async () => {
    browser({});
    const { storage } = navigator as unknown as { storage: { getDirectory: () => Promise<unknown> } };
    const directory = await storage.getDirectory();
    let failures = OPFS_TRIES - 1;
    storage.getDirectory = () => (failures-- > 0 ? Promise.reject(new DOMException("busy", "InvalidStateError")) : Promise.resolve(directory));
    expect(await opfsPlace("app")).toMatchObject({ kind: "opfs" });
    failures = OPFS_TRIES;
    await expect(opfsPlace("app")).rejects.toMatchObject({ code: "store_failed" });
  });

  it("tells a full disk from other failures, whichever way the browser tells it", async () => {
    const handle = { getSize: () => 0, write: () => 1, truncate: () => {}, flush: () => {}, close: () => {} };
    browser(handle);
    const { file } = await (await opfsPlace("app"))!.open();
    expect(() => file.write(0, bytes(1, 2))).toThrow(expect.objectContaining({ code: "quota" }));
    handle.truncate = () => {
      throw new DOMException("full", "QuotaExceededError");
    };
    expect(() => file.truncate(9)).toThrow(expect.objectContaining({ code: "quota" }));
    handle.flush = () => {
      throw new DOMException("broken", "InvalidStateError");
    };
    expect(() => file.flush()).toThrow(expect.objectContaining({ name: "InvalidStateError" }));
  });

  it("waits for a file that another tab is just letting go", async () => {
    let attempts = 0;
    // The journal's handle is taken first.
    browser(() => {
      if (attempts++ < 3) throw new DOMException("held", "NoModificationAllowedError");
      return { getSize: () => 7 };
    });
    expect(await (await opfsPlace("a/b"))!.open()).toMatchObject({ fresh: false });
    expect(attempts).toBe(5);
  });

  it("never removes a store that was complete once", async () => {
    const { files } = browser({ getSize: () => 0 });
    const place = (await opfsPlace("a/b"))!;
    await place.open();
    expect(await place.discard()).toBe(true);
    await place.open();
    await place.completed();
    expect(await place.discard()).toBe(false);
    expect([...files]).toEqual(["a%2Fb.redb.rejoin-journal", "a%2Fb.redb", "a%2Fb.complete"]);
  });
});

describe("the status", () => {
  afterEach(() => vi.unstubAllGlobals());

  it("asks for persistence once, and tells the answer", async () => {
    const persist = vi.fn(async () => true);
    vi.stubGlobal("navigator", { storage: { persist } });
    const told: WireStatus[] = [];
    const status = new PageStatus({ name: "app" }, (news) => told.push(news), () => {});
    status.learn({ storage: "opfs" });
    status.learn({ storage: "opfs", quota: { usage: 1, quota: 2 } });
    status.engine({ state: "synced", pending: 0, storage: "memory" });
    await new Promise((resolve) => setTimeout(resolve));
    expect(persist).toHaveBeenCalledTimes(1);
    expect(told.at(-1)).toEqual({ state: "synced", pending: 0, storage: "opfs", quota: { usage: 1, quota: 2 }, persisted: true });
  });

  it("knows an evicted store from a new one, in the page whose worker leads", () => {
    const marks = new Map<string, string>();
    vi.stubGlobal("localStorage", { getItem: (key: string) => marks.get(key) ?? null, setItem: (key: string, value: string) => marks.set(key, value) });
    const evicted = vi.fn();
    const begin = (leads: boolean, fresh: boolean): void => {
      const status = new PageStatus({ name: "app", persist: false }, () => {}, evicted);
      status.leads(leads);
      status.learn({ storage: "opfs", fresh });
    };
    begin(true, true);
    begin(false, true);
    begin(true, false);
    expect(evicted).not.toHaveBeenCalled();
    begin(true, true);
    expect(evicted).toHaveBeenCalledTimes(1);
  });
});
