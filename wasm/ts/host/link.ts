/**
 * The page's end: numbers requests, sends those of one turn as one message, keeps what was not answered, and sends it again when another
 * engine serves the page. An engine does a request once, however often it hears of it.
 */
import { RejoinError } from "../page/errors.js";
import type { EngineEvent, Link, LinkOptions, WireStatus } from "../page/link.js";
import { PENDING_BYTES_MAX, PENDING_REQUESTS_MAX, REQUEST_BYTES_MAX } from "./limits.js";
import { PageStatus } from "./status.js";
import { Peer, type PeerOptions } from "./peer.js";
import { WAITING, type Entry, type Failure, type Request, type ToPage } from "./messages.js";

/**
 * Connects a page to the engine of a store, and starts one if no other tab runs it.
 *
 * Resolves when an engine serves the page; rejects with a {@link RejoinError} when the store or the WASM cannot be opened.
 *
 * @example
 * ```ts
 * const link = await connectLink({ name: "my-app" });
 * ```
 */
export async function connectLink(options: LinkOptions): Promise<Link> {
  const link = new PageLink(options, (start, to) => Peer.start(options, start, to));
  await link.connected;
  return link;
}

interface Pending {
  request: Request;
  bytes: number;
  resolve(value: unknown): void;
  reject(error: RejoinError): void;
}

interface Settle {
  resolve(): void;
  reject(error: RejoinError): void;
}

/** The link of a page. */
export class PageLink implements Link {
  readonly session = hex(crypto.getRandomValues(new Uint8Array(16)));
  /** Settles when an engine serves the page, or none will. */
  readonly connected: Promise<void>;
  #peer: Peer;
  #status: PageStatus;
  #pending = new Map<number, Pending>();
  /** Those that only wait, apart: one that waits for an hour must not keep the engine from forgetting what it answered meanwhile. */
  #waits = new Map<number, Pending>();
  #pendingBytes = 0;
  #queue: Request[] = [];
  #isTurnOpen = false;
  #lastId = 0;
  #tag = "";
  #wasServed = false;
  #over: RejoinError | undefined;
  #handler: ((event: EngineEvent) => void) | undefined;
  #early: EngineEvent[] = [];
  #settle: Settle;

  constructor(options: LinkOptions, start: (start: PeerOptions, to: (message: ToPage) => void) => Peer) {
    let settle: Settle | undefined;
    this.connected = new Promise((resolve, reject) => {
      settle = { resolve, reject };
    });
    this.#settle = settle as unknown as Settle;
    this.#status = new PageStatus(options, (status) => this.#tell({ e: "status", ...status }), () => this.#peer.post({ t: "evicted" }));
    this.#peer = start({ session: this.session, lost: (why) => this.#end(why) }, (message) => this.#hear(message));
  }

  request(method: string, args: unknown[], bytes?: Uint8Array): { id: number; result: Promise<unknown> } {
    const id = ++this.#lastId;
    if (method === "persist") return { id, result: this.#status.persist() };
    const text = JSON.stringify(args);
    const result = new Promise<unknown>((resolve, reject) => {
      const size = text.length + (bytes?.length ?? 0);
      const refused = this.#over ?? this.#tooMuch(size);
      if (refused) return reject(refused);
      const request: Request = [id, method, text, bytes];
      (WAITING.has(method) ? this.#waits : this.#pending).set(id, { request, bytes: size, resolve, reject });
      this.#pendingBytes += size;
      this.#queue.push(request);
      this.#flushSoon();
    });
    return { id, result };
  }

  onEvent(handler: (event: EngineEvent) => void): void {
    this.#handler = handler;
    const early = this.#early;
    this.#early = [];
    for (const event of early) this.#tell(event);
  }

  async close(): Promise<void> {
    if (this.#over) return;
    this.#flush();
    await this.#peer.close();
    this.#end(new RejoinError("closed", "the repo was closed"));
  }

  #tooMuch(size: number): RejoinError | undefined {
    const over = (what: string, limit: number): RejoinError =>
      new RejoinError("too_large", `failed to send a request: ${what} exceeds ${limit}`, { limit });
    if (size > REQUEST_BYTES_MAX) return over("its size in bytes", REQUEST_BYTES_MAX);
    if (this.#pending.size + this.#waits.size >= PENDING_REQUESTS_MAX) return over("the number of unanswered requests", PENDING_REQUESTS_MAX);
    if (this.#pendingBytes + size > PENDING_BYTES_MAX) return over("the size of unanswered requests in bytes", PENDING_BYTES_MAX);
    return undefined;
  }

  #hear(message: ToPage): void {
    if (this.#over) return;
    switch (message.t) {
      case "engine":
        this.#status.learn(message.info);
        if (message.tag !== this.#tag) this.#serve(message.tag, message.info.fresh === true);
        break;
      case "batch":
        if (message.tag === this.#tag) for (const entry of message.list) this.#take(entry);
        break;
      case "info":
        this.#status.learn(message.info);
        break;
      case "leads":
        this.#status.leads(message.is);
        break;
      case "failed":
        this.#end(error(message.failure));
        break;
      default:
        break;
    }
  }

  /** Another engine serves the page: what was not answered goes to it, in the order of ids, before what its news causes. */
  #serve(tag: string, isFresh: boolean): void {
    // A leader that made the store says so to everybody who comes, also to who comes again.
    const isLost = this.#wasServed && isFresh && leaderOf(tag) !== leaderOf(this.#tag);
    this.#tag = tag;
    this.#queue = [...this.#pending.values(), ...this.#waits.values()].map(({ request }) => request).sort(([a], [b]) => a - b);
    if (isLost) this.#status.lost();
    if (this.#wasServed) this.#tell({ e: "engine", ...(isLost && { lost: true }) });
    this.#wasServed = true;
    this.#settle.resolve();
    this.#flush();
  }

  #take(entry: Entry): void {
    if (typeof entry === "string") {
      const event = JSON.parse(entry) as EngineEvent;
      if (event.e === "status") this.#status.engine(event);
      else this.#tell(event);
      return;
    }
    const [id, result, failure] = entry;
    const pending = this.#pending.get(id) ?? this.#waits.get(id);
    if (!pending) return;
    this.#pending.delete(id);
    this.#waits.delete(id);
    this.#pendingBytes -= pending.bytes;
    if (failure) return pending.reject(error(failure));
    if (pending.request[1] === "signOut") this.#status.forget();
    const value: unknown = typeof result === "string" ? JSON.parse(result) : result;
    pending.resolve(pending.request[1] === "status" ? this.#status.merged(value as WireStatus) : value);
  }

  #tell(event: EngineEvent): void {
    if (!this.#handler) {
      this.#early.push(event);
      return;
    }
    try {
      this.#handler(event);
    } catch (error) {
      // What an application throws must not cost it the answers that came in the same message.
      if (typeof reportError === "function") reportError(error);
      else console.error(error);
    }
  }

  #flushSoon(): void {
    if (this.#isTurnOpen) return;
    this.#isTurnOpen = true;
    nextTurn(() => this.#flush());
  }

  #flush(): void {
    this.#isTurnOpen = false;
    if (this.#queue.length === 0 || !this.#tag) return;
    const list = this.#queue;
    this.#queue = [];
    // Every id below the first that was not answered, waits left aside. Ids of requests that were never sent are passed over, too.
    const first = this.#pending.keys().next().value ?? this.#lastId + 1;
    this.#peer.post({ t: "requests", tag: this.#tag, acked: first - 1, list });
  }

  #end(why: RejoinError): void {
    if (this.#over) return;
    this.#over = why;
    this.#peer.end();
    this.#settle.reject(why);
    // Whoever awaits `connected` hears of it; whoever does not must not be troubled by it.
    this.connected.catch(() => {});
    for (const { reject } of [...this.#pending.values(), ...this.#waits.values()]) reject(why);
    this.#pending.clear();
    this.#waits.clear();
    this.#queue = [];
    if (why.code !== "closed") this.#status.failed(why);
  }
}

const leaderOf = (tag: string): string | undefined => tag.split(".")[0];

function error({ code, message, details }: Failure): RejoinError {
  return new RejoinError(code, message, details);
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

let turns: MessageChannel | undefined;
const waiting: (() => void)[] = [];

/** Runs a task in the next turn of the event loop. Not by a timeout, which browsers stretch to a second in background tabs. */
function nextTurn(task: () => void): void {
  if (typeof setImmediate === "function") {
    setImmediate(task);
    return;
  }
  if (!turns) {
    turns = new MessageChannel();
    turns.port1.onmessage = () => waiting.shift()?.();
  }
  waiting.push(task);
  turns.port2.postMessage(null);
}
