/**
 * What a page talks to: its worker, or the engine in this very thread. Starts the worker again if it ends, and tells it when the page is
 * put to sleep, when it wakes up, and how the network is.
 */
import { RejoinError } from "../page/errors.js";
import type { LinkOptions } from "../page/link.js";
import { CLOSE_WAIT_MS, RESTART_WINDOW_MS, WORKER_RESTARTS_MAX } from "./limits.js";
import type { Start, ToPage, ToWorker } from "./messages.js";

/** What a peer needs of its page. */
export interface PeerOptions {
  session: string;
  /** Called when there is no way to an engine any more. */
  lost(why: RejoinError): void;
}

/** One end of a way to a worker. */
interface Way {
  post(message: ToWorker): void;
  end(): void;
}

/** The page's peer. */
export class Peer {
  #start: Start;
  #options: LinkOptions;
  #page: PeerOptions;
  #hear: (message: ToPage) => void;
  #way: Way | undefined;
  #before: ToWorker[] = [];
  #watch: AbortController | undefined;
  #restarts: number[] = [];
  #isAsleep = false;
  #isOver = false;
  #closed: () => void = () => {};
  #unlisten: () => void;

  static start(options: LinkOptions, page: PeerOptions, hear: (message: ToPage) => void): Peer {
    return new Peer(options, page, hear);
  }

  private constructor(options: LinkOptions, page: PeerOptions, hear: (message: ToPage) => void) {
    const { name, storage = "auto", directory, wasm } = options;
    this.#options = options;
    this.#page = page;
    this.#hear = hear;
    // An address may be relative to the page, which the worker is not; and a URL cannot be cloned.
    const source = typeof wasm === "string" || wasm instanceof URL ? String(globalThis.document ? new URL(wasm, document.baseURI) : wasm) : wasm;
    this.#start = { t: "start", name, session: page.session, storage, directory, wasm: source };
    this.#unlisten = this.#listen();
    this.#open();
  }

  /** Sends a message. */
  post(message: ToWorker): void {
    if (this.#way) this.#way.post(message);
    else if (!this.#isOver) this.#before.push(message);
  }

  /** Lets the worker close what it holds, and ends it. */
  async close(): Promise<void> {
    this.#watch?.abort();
    this.#isOver = true;
    let timer: unknown;
    await new Promise<void>((resolve) => {
      this.#closed = resolve;
      timer = setTimeout(resolve, CLOSE_WAIT_MS);
      if (this.#way) this.#way.post({ t: "close" });
      else resolve();
    });
    clearTimeout(timer as number);
    this.end();
  }

  /** Ends the worker at once. */
  end(): void {
    this.#isOver = true;
    this.#watch?.abort();
    this.#unlisten();
    this.#way?.end();
    this.#way = undefined;
    // Nobody says goodbye any more.
    this.#closed();
  }

  #open(): void {
    const { worker } = this.#options;
    let hasSpoken = false;
    const hear = (message: ToPage): void => {
      hasSpoken = true;
      if (message.t === "closed") this.#closed();
      else if (message.t === "ready") this.#watchWorker();
      else if (message.t === "stepsBack") {
        this.#watch?.abort();
        this.post({ t: "stepBack" });
      } else this.#hear(message);
    };
    if (worker === null || typeof Worker === "undefined") {
      // Apart, so that a page that has workers does not load it.
      import("./inside.js").then(
        ({ startInside }) => this.#use({ post: startInside(this.#start, hear), end: () => {} }),
        (error: unknown) => this.#page.lost(new RejoinError("unsupported", `failed to load the engine: ${String(error)}`)),
      );
      return;
    }
    try {
      // Bundlers look for exactly this expression.
      const made = worker ? worker() : new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
      made.onmessage = ({ data }: MessageEvent<ToPage>) => hear(data);
      made.onerror = (event) => {
        // One that has spoken goes on after an error; one that has not found its script never will.
        if (!hasSpoken) this.#page.lost(notStarted(event.message));
      };
      made.postMessage(this.#start);
      this.#use({ post: (message) => made.postMessage(message), end: () => made.terminate() });
    } catch (error) {
      this.#before = [];
      // Nobody has this peer in hand yet.
      queueMicrotask(() => this.#page.lost(notStarted(String(error))));
    }
  }

  #use(way: Way): void {
    if (this.#isOver) {
      way.post({ t: "close" });
      return;
    }
    this.#way = way;
    const before = this.#before;
    this.#before = [];
    for (const message of before) way.post(message);
  }

  /** The worker holds the lock of the session. When we get it, the worker has ended, and nobody else would tell us. */
  #watchWorker(): void {
    const locks = globalThis.navigator?.locks;
    const watch = new AbortController();
    this.#watch = watch;
    locks
      ?.request(`rejoin:${encodeURIComponent(this.#start.name)}:${this.#start.session}`, { signal: watch.signal }, () => {
        if (!watch.signal.aborted && !this.#isOver) this.#restart();
      })
      .catch(() => {});
  }

  #restart(): void {
    const now = Date.now();
    this.#restarts = this.#restarts.filter((at) => now - at < RESTART_WINDOW_MS);
    if (this.#restarts.length >= WORKER_RESTARTS_MAX) {
      this.#page.lost(new RejoinError("trapped", "the worker ends again and again"));
      return;
    }
    this.#restarts.push(now);
    this.#way?.end();
    this.#way = undefined;
    this.#open();
  }

  #listen(): () => void {
    const page = globalThis.window;
    if (!page?.addEventListener || !globalThis.document) return () => {};
    const { document } = page;
    const sleep = (): void => {
      if (this.#isAsleep) return;
      this.#isAsleep = true;
      this.#watch?.abort();
      this.post({ t: "pause" });
    };
    const wake = (): void => {
      if (!this.#isAsleep) return;
      this.#isAsleep = false;
      this.post({ t: "resume" });
    };
    const hide = (event: PageTransitionEvent): void => {
      if (event.persisted) sleep();
    };
    const online = (): void => this.post({ t: "online", is: true });
    const offline = (): void => this.post({ t: "online", is: false });
    const listening = new AbortController();
    const { signal } = listening;
    document.addEventListener("freeze", sleep, { signal });
    document.addEventListener("resume", wake, { signal });
    page.addEventListener("pagehide", hide, { signal });
    page.addEventListener("pageshow", wake, { signal });
    page.addEventListener("online", online, { signal });
    page.addEventListener("offline", offline, { signal });
    return () => listening.abort();
  }
}

function notStarted(why: string): RejoinError {
  return new RejoinError("unsupported", `failed to start the worker: ${why || "its script was not found (is `rejoin` among the dependencies your bundler pre-bundles? exclude it)"}`);
}
