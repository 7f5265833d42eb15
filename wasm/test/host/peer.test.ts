import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { WORKER_RESTARTS_MAX } from "../../ts/host/limits.js";
import { Peer } from "../../ts/host/peer.js";
import type { ToPage, ToWorker } from "../../ts/host/messages.js";
import type { RejoinError } from "../../ts/page/errors.js";
import type { LinkOptions } from "../../ts/page/link.js";

/** A worker that only listens; the test speaks for it. */
class FakeWorker {
  static all: FakeWorker[] = [];
  heard: ToWorker[] = [];
  isEnded = false;
  onmessage: ((event: { data: ToPage }) => void) | null = null;
  onerror: ((event: { message: string }) => void) | null = null;
  constructor(readonly address: URL) {
    FakeWorker.all.push(this);
  }
  postMessage(message: ToWorker): void {
    this.heard.push(message);
  }
  terminate(): void {
    this.isEnded = true;
  }
  say(message: ToPage): void {
    this.onmessage?.({ data: message });
  }
}

/** Whoever waits for the lock of a session, so that the test can grant it. */
let watching: (() => void)[] = [];
let lost: RejoinError[] = [];
let heard: ToPage[] = [];

beforeEach(() => {
  FakeWorker.all = [];
  watching = [];
  lost = [];
  heard = [];
  vi.stubGlobal("Worker", FakeWorker);
  const request = (_: string, { signal }: { signal: AbortSignal }, granted: () => void): Promise<void> =>
    new Promise((_done, fail) => {
      watching.push(granted);
      signal.addEventListener("abort", () => {
        watching = watching.filter((each) => each !== granted);
        fail(new DOMException("given up", "AbortError"));
      });
    });
  vi.stubGlobal("navigator", { locks: { request } });
});
afterEach(() => vi.unstubAllGlobals());

const start = (options: Partial<LinkOptions> = {}): Peer =>
  Peer.start({ name: "app", ...options }, { session: "s", lost: (why) => lost.push(why) }, (message) => heard.push(message));
const last = (): FakeWorker => FakeWorker.all.at(-1) as FakeWorker;

describe("a page and its worker", () => {
  it("starts the worker beside it, and tells it what to open", () => {
    start({ storage: "memory", wasm: new URL("https://example.org/x.wasm") });
    expect(last().address.pathname).toMatch(/worker\.js$/);
    expect(last().heard).toEqual([{ t: "start", name: "app", session: "s", storage: "memory", directory: undefined, wasm: "https://example.org/x.wasm" }]);
  });

  it("starts another worker when its own has ended, and gives up when that happens again and again", () => {
    start();
    for (let i = 0; i < WORKER_RESTARTS_MAX; i++) {
      last().say({ t: "ready" });
      watching.pop()?.();
      expect(FakeWorker.all).toHaveLength(i + 2);
    }
    expect(FakeWorker.all.slice(0, -1).every(({ isEnded }) => isEnded)).toBe(true);
    expect(lost).toEqual([]);
    last().say({ t: "ready" });
    watching.pop()?.();
    expect(lost).toMatchObject([{ code: "trapped" }]);
  });

  it("says why when the worker's script is not there, and lives with the errors of one that works", () => {
    start();
    last().onerror?.({ message: "" });
    expect(lost).toMatchObject([{ code: "unsupported", message: expect.stringContaining("exclude") }]);
    lost = [];
    start();
    last().say({ t: "leads", is: true });
    last().onerror?.({ message: "oops" });
    expect(lost).toEqual([]);
    expect(heard).toEqual([{ t: "leads", is: true }]);
  });

  it("says why when no worker can be made at all", async () => {
    start({
      worker: () => {
        throw new Error("forbidden");
      },
    });
    await Promise.resolve();
    expect(lost).toMatchObject([{ code: "unsupported", message: expect.stringContaining("forbidden") }]);
  });

  it("waits for the worker to close the store before it ends it", async () => {
    const peer = start();
    last().say({ t: "ready" });
    const closing = peer.close();
    expect(last().heard.at(-1)).toEqual({ t: "close" });
    expect(last().isEnded).toBe(false);
    last().say({ t: "closed" });
    await closing;
    expect(last().isEnded).toBe(true);
    expect(watching).toEqual([]);
  });

  it("does not wait for the goodbye of a worker that it has ended", async () => {
    const peer = start();
    let isOver = false;
    const closing = peer.close().then(() => (isOver = true));
    peer.end();
    await Promise.resolve();
    await Promise.resolve();
    expect(isOver).toBe(true);
    await closing;
  });

  it("does not take a worker for ended that steps back", () => {
    start();
    last().say({ t: "ready" });
    expect(watching).toHaveLength(1);
    last().say({ t: "stepsBack" });
    expect(watching).toEqual([]);
    expect(last().heard.at(-1)).toEqual({ t: "stepBack" });
    last().say({ t: "ready" });
    expect(watching).toHaveLength(1);
    expect(FakeWorker.all).toHaveLength(1);
  });

  it("puts the worker to sleep with the page, and wakes it once", () => {
    const window = new EventTarget();
    const document = Object.assign(new EventTarget(), { baseURI: "https://example.org/a/b.html" });
    vi.stubGlobal("document", document);
    vi.stubGlobal("window", Object.assign(window, { document }));
    const peer = start({ wasm: "c.wasm" });
    expect(last().heard[0]).toMatchObject({ wasm: "https://example.org/a/c.wasm" });
    last().say({ t: "ready" });
    const fire = (name: string, event = {}): void => {
      for (const target of [window, document]) target.dispatchEvent(Object.assign(new Event(name), event));
    };
    fire("pagehide", { persisted: false });
    fire("freeze");
    fire("pagehide", { persisted: true });
    // The lock is free now, and that must not look like the worker's end.
    expect(watching).toEqual([]);
    fire("pageshow");
    fire("resume");
    fire("online");
    fire("offline");
    expect(last().heard.slice(1)).toEqual([{ t: "pause" }, { t: "resume" }, { t: "online", is: true }, { t: "online", is: false }]);
    const heard = last().heard.length;
    peer.end();
    const atTheEnd = last().heard.length;
    for (const name of ["pagehide", "freeze", "pageshow", "resume", "online", "offline"]) fire(name, { persisted: true });
    expect(last().heard.length).toBe(atTheEnd);
    expect(atTheEnd).toBeGreaterThanOrEqual(heard);
  });
});
