/**
 * Serves sessions with an engine: the one place that owns an engine, wherever it runs.
 *
 * A session is attached, gets a tag (`engine`), and sends requests that carry it. After a trap the sessions get another tag, and send again what was not
 * answered; requests with an old tag are dropped, since they come again. What is told to a session within one turn travels as one message.
 */
import { CLOSE_WAIT_MS, ESTIMATE_EVERY_MS, SIGN_OUT_WAIT_MS } from "./limits.js";
import { failure, WAITING, type Entry, type Failure, type Info, type Request, type ToSession } from "./messages.js";
import { Traps, type Working } from "./trap.js";
import { Sockets, type MakeWebSocket } from "./socket.js";
import type { Engine, Host, Instance, LoadEngine, Place, StoreFile } from "./contract.js";

/** What a server is given. */
export interface ServerOptions {
  place: Place;
  load: LoadEngine;
  /** Finds what makes WebSockets; asked when a relay is to be connected to. */
  webSocket(): MakeWebSocket | null;
  /** Called once when there will be no engine here, since the store or the WASM does not open. */
  failed(failure: Failure): void;
}

interface Session {
  send(message: ToSession): void;
  tag: string;
  outgoing: Entry[];
}

/** One engine with what belongs to it; a restart makes another. */
class Running {
  engine: Engine | undefined;
  instance: Instance | undefined;
  files: GuardedFile[] = [];
  sockets: Sockets;
  isDead = false;
  working: Working = { doc: null, hash: null };
  /** The request whose call has not returned yet, as opposed to those that wait for their answer. */
  calling: string | undefined;
  underWay = new Set<string>();
  panic = "";

  constructor(sockets: Sockets) {
    this.sockets = sockets;
  }

  /** Takes everything away from an engine that must not touch anything any more. */
  kill(): void {
    this.isDead = true;
    this.instance?.kill();
    this.sockets.closeAll();
    for (const file of this.files) file.close();
  }
}

/** Serves sessions. */
export class Server {
  #options: ServerOptions;
  #sessions = new Map<string, Session>();
  #running: Running | undefined;
  #traps: Traps | undefined;
  #info: Info;
  #attachments = 0;
  #isFlushing = false;
  #estimatedAt = 0;
  #refusal: Failure | undefined;
  #isOver = false;
  #webSocket: MakeWebSocket | null = null;
  #own = "";
  /** Those that were signed out and are to go before others may lead. */
  #leaving = new Set<string>();
  #left: () => void = () => {};
  readonly #id = Math.random().toString(36).slice(2);

  constructor(options: ServerOptions) {
    this.#options = options;
    this.#info = { storage: options.place.kind };
  }

  /** Opens the store; resolves when sessions are served, or when `failed` was called. */
  async start(): Promise<void> {
    try {
      this.#traps = new Traps(await this.#options.place.quarantine());
      await this.#open();
    } catch (error) {
      await this.#fail(error);
    }
  }

  /** Adds a session, or tells one that is there already by which tag it is known. That of the page which started all this is `own`. */
  attach(name: string, send: (message: ToSession) => void, own = false): void {
    if (own) this.#own = name;
    let session = this.#sessions.get(name);
    if (session) {
      session.send = send;
      if (session.tag) this.#welcome(session);
      return;
    }
    session = { send, tag: "", outgoing: [] };
    this.#sessions.set(name, session);
    if (this.#running?.engine) this.#attachTo(this.#running.engine, name, session);
    else if (this.#refusal) this.#retag(session);
  }

  /** Removes a session: its watches and its presence end. */
  detach(name: string): void {
    if (this.#leaving.delete(name) && !this.#leaving.size) this.#left();
    const session = this.#sessions.get(name);
    if (!session || !this.#sessions.delete(name) || !session.tag) return;
    this.#guard(() => this.#running?.engine?.detach(name));
  }

  /** Takes requests of a session, all those of one turn, so that the engine can make one commit of them. */
  requests(name: string, tag: string, acked: number, list: Request[]): void {
    const session = this.#sessions.get(name);
    if (!session || session.tag !== tag || this.#isOver) return;
    const running = this.#running;
    if (this.#refusal) return this.#refuse(session, list);
    if (!running?.engine) return;
    for (const request of list) {
      if (running.isDead) return;
      this.#call(running, name, session, acked, request);
    }
  }

  /** Passes on whether there is a network. */
  online(isOnline: boolean): void {
    this.#guard(() => this.#running?.engine?.online?.(isOnline));
  }

  /** Notes that there was a store once, as the page remembers, and tells all. */
  evicted(): void {
    this.#tell({ evicted: true });
  }

  /**
   * Closes the engine and lets go of the store; `last` runs in between. Requests that were not answered are driven again elsewhere.
   */
  async close(last?: () => Promise<void>): Promise<void> {
    if (this.#isOver) return;
    this.#isOver = true;
    const running = this.#running;
    let timer: unknown;
    const late = new Promise((resolve) => {
      timer = setTimeout(resolve, CLOSE_WAIT_MS);
    });
    try {
      await Promise.race([running?.engine?.close(), late]);
    } catch {
      // What was acknowledged is durable; an engine that cannot close in order is closed by force.
    } finally {
      clearTimeout(timer as number);
      // What the last commit answered is still told; whoever waits for longer than that is served by the next engine.
      this.#flush();
      this.#sessions.clear();
      this.#running = undefined;
      running?.kill();
      await last?.();
      await this.#options.place.release();
    }
  }

  /** Nothing is written any more, and the relay has everything: removes the store before the page that wanted that hears of it. */
  async #signedOut(name: string, answer: Entry): Promise<void> {
    if (this.#isOver) return;
    const sessions = new Map(this.#sessions);
    const own = sessions.get(this.#own);
    sessions.delete(this.#own);
    await this.close(() =>
      this.#options.place.remove().catch((error: unknown) => {
        answer = [answer[0] as number, null, failure(error, "store_failed")];
      }),
    );
    const why: Failure = { code: "signing_out", message: "this device was signed out by another page" };
    const tell = ({ send, tag }: Session, of: string): void => send(of === name ? { t: "batch", tag, list: [answer] } : { t: "failed", failure: why });
    sessions.forEach(tell);
    // Whoever leads next before it has heard of this would make the store anew.
    this.#leaving = new Set(sessions.keys());
    await new Promise<void>((resolve) => {
      this.#left = resolve;
      if (sessions.size) setTimeout(resolve, SIGN_OUT_WAIT_MS);
      else resolve();
    });
    if (own && this.#own === name) tell(own, name);
    this.#options.failed(this.#own === name ? { ...why, code: "closed" } : why);
  }

  async #open(): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      const running = new Running(new Sockets((url, protocols) => (this.#webSocket as MakeWebSocket)(url, protocols), (error) => this.#trapped(running, error)));
      this.#running = running;
      const opened = await this.#options.place.open().catch((error: unknown) => {
        throw failure(error, "store_failed");
      });
      const [file, journal] = [opened.file, opened.journal].map((one) => new GuardedFile(one, () => void this.#estimate())) as [GuardedFile, GuardedFile];
      running.files = [file, journal];
      try {
        if (this.#isOver) throw { code: "closed", message: "the store was closed while it was being opened" };
        running.instance = await this.#options.load((error) => this.#trapped(running, error));
        const traps = this.#traps as Traps;
        const engine = await running.instance.open(
          {
            file,
            journal,
            ...(traps.quarantined.length > 0 && { now_quarantined: traps.quarantined }),
            ...(traps.suspect && { suspect: traps.suspect }),
          },
          this.#host(running),
        );
        await this.#options.place.completed();
        if (running.isDead) return;
        this.#serve(running, engine, opened.fresh);
        return;
      } catch (error) {
        const wasDead = running.isDead;
        // Also one that was killed before it had its files.
        running.kill();
        if (this.#isOver) await this.#options.place.release();
        if (wasDead) return;
        const { code } = failure(error);
        // An engine that says what is wrong has not trapped.
        if (isTrap(error)) return this.#restart(running);
        if (code === "store_damaged" && attempt === 0 && (await this.#options.place.discard())) continue;
        throw error;
      }
    }
  }

  #serve(running: Running, engine: Engine, fresh: boolean): void {
    running.engine = engine;
    this.#refusal = undefined;
    this.#info = { ...this.#info, fresh };
    for (const [name, session] of this.#sessions) this.#attachTo(engine, name, session);
    void this.#estimate();
  }

  #attachTo(engine: Engine, name: string, session: Session): void {
    // In this order: what the engine says to a new session at once belongs to its new tag.
    this.#retag(session);
    this.#guard(() => engine.attach(name));
  }

  #retag(session: Session): void {
    session.tag = `${this.#id}.${++this.#attachments}`;
    session.outgoing = [];
    this.#welcome(session);
  }

  #welcome(session: Session): void {
    session.send({ t: "engine", tag: session.tag, info: this.#info });
  }

  #call(running: Running, name: string, session: Session, acked: number, [id, method, args, bytes]: Request): void {
    const key = `${name}:${id}`;
    if (this.#traps?.isToBlame(key)) {
      this.#answer(session, session.tag, [id, null, { code: "trapped", message: `the engine failed on this request (${method}) repeatedly` }]);
      return;
    }
    const { tag } = session;
    if (method === "connect" && !(this.#webSocket ??= this.#options.webSocket())) {
      const message = "failed to connect: there is no WebSocket here (install the package ws, or use Node 22 or newer)";
      this.#answer(session, tag, [id, null, { code: "unsupported", message }]);
      return;
    }
    // Those that wait are under way at every trap, and never its cause.
    if (!WAITING.has(method)) running.underWay.add(key);
    running.calling = key;
    let result: Promise<string | Uint8Array>;
    try {
      result = (running.engine as Engine).call(name, id, acked, method, args, bytes);
    } catch (error) {
      this.#trapped(running, error);
      return;
    } finally {
      if (!running.isDead) running.calling = undefined;
    }
    result.then(
      (value) => {
        running.underWay.delete(key);
        if (running.isDead) return;
        if (method === "signOut") void this.#signedOut(name, [id, value]);
        else this.#answer(session, tag, [id, value]);
      },
      (error: unknown) => {
        if (running.isDead || this.#isOver) return;
        if (isTrap(error)) return this.#trapped(running, error);
        running.underWay.delete(key);
        this.#answer(session, tag, [id, null, failure(error)]);
      },
    );
  }

  #host(running: Running): Host {
    return {
      event: (name, json) => {
        if (running.isDead) return;
        if (name === "") for (const session of this.#sessions.values()) this.#answer(session, session.tag, json);
        else {
          const session = this.#sessions.get(name);
          if (session) this.#answer(session, session.tag, json);
        }
        if (json.includes('"e":"status"') && Date.now() - this.#estimatedAt > ESTIMATE_EVERY_MS) void this.#estimate();
      },
      socket: (url, protocols, on) => running.sockets.open(url, protocols, on),
      working: (doc, hash) => {
        // After a trap on the way out of the engine nothing may hide what it was working on.
        if (!running.isDead) running.working = { doc: doc ?? null, hash: hash ?? null };
      },
      panicked: (message) => {
        running.panic ||= message;
      },
      log: (level, text) => console[level](`rejoin: ${text}`),
    };
  }

  #answer(session: Session, tag: string, entry: Entry): void {
    if (session.tag !== tag) return;
    session.outgoing.push(entry);
    if (this.#isFlushing) return;
    this.#isFlushing = true;
    // Twice, so that all answers that one commit brings are in the same message.
    queueMicrotask(() => queueMicrotask(() => this.#flush()));
  }

  #flush(): void {
    this.#isFlushing = false;
    for (const session of this.#sessions.values()) {
      if (session.outgoing.length === 0) continue;
      const list = session.outgoing;
      session.outgoing = [];
      session.send({ t: "batch", tag: session.tag, list });
    }
  }

  /** Runs a call into the engine that has no answer. */
  #guard(call: () => void): void {
    const running = this.#running;
    try {
      call();
    } catch (error) {
      if (running) this.#trapped(running, error);
    }
  }

  #trapped(running: Running, error: unknown): void {
    if (running.isDead || this.#isOver) return;
    running.kill();
    console.error(`rejoin: the engine failed and is started again${running.panic && `: ${running.panic}`}`, error);
    this.#restart(running).catch((reason: unknown) => this.#fail(reason));
  }

  async #restart(running: Running): Promise<void> {
    const traps = this.#traps as Traps;
    this.#running = undefined;
    for (const session of this.#sessions.values()) session.tag = "";
    const blamed = running.calling ? [running.calling] : running.underWay;
    if (traps.trapped(running.working, blamed)) await this.#options.place.keepQuarantine(traps.quarantined);
    if (this.#isOver) return;
    if (traps.mayRestart(Date.now())) return this.#open();
    this.#refusal = { code: "trapped", message: `the engine fails again and again${running.panic && `: ${running.panic}`}` };
    for (const session of this.#sessions.values()) this.#retag(session);
    this.#refuse();
  }

  /** Answers requests while there is no engine, and says why in the status. */
  #refuse(session?: Session, list: Request[] = []): void {
    const refusal = this.#refusal as Failure;
    if (session && this.#traps?.mayRestart(Date.now())) {
      // The minute is over: once more. What was asked comes again when the engine is there.
      this.#refusal = undefined;
      for (const each of this.#sessions.values()) each.tag = "";
      this.#open().catch((error: unknown) => this.#fail(error));
      return;
    }
    for (const [id] of list) if (session) this.#answer(session, session.tag, [id, null, refusal]);
    if (session) return;
    const status = JSON.stringify({ e: "status", state: "closed", reason: "trapped", pending: 0, error: refusal });
    for (const each of this.#sessions.values()) this.#answer(each, each.tag, status);
  }

  async #fail(error: unknown): Promise<void> {
    if (this.#isOver) return;
    await this.close();
    this.#options.failed(failure(error));
  }

  async #estimate(): Promise<void> {
    this.#estimatedAt = Date.now();
    const quota = await this.#options.place.estimate().catch(() => undefined);
    const before = this.#info.quota;
    if (quota && (quota.usage !== before?.usage || quota.quota !== before?.quota)) this.#tell({ quota });
  }

  #tell(news: Partial<Info>): void {
    this.#info = { ...this.#info, ...news };
    for (const session of this.#sessions.values()) if (session.tag) session.send({ t: "info", info: this.#info });
  }
}

/** The engine's errors have a code. Whatever has none comes out of WASM itself: unreachable, out of bounds, stack or memory used up. */
function isTrap(error: unknown): boolean {
  return typeof (error as { code?: unknown } | null)?.code !== "string";
}

/** A file that is taken away from an engine that has died, and that notices when the disk is full. */
class GuardedFile implements StoreFile {
  #file: StoreFile | undefined;
  #full: () => void;

  constructor(file: StoreFile, full: () => void) {
    this.#file = file;
    this.#full = full;
  }

  read(at: number, into: Uint8Array): number {
    return this.#open().read(at, into);
  }

  write(at: number, from: Uint8Array): void {
    this.#noticing(() => this.#open().write(at, from));
  }

  size(): number {
    return this.#open().size();
  }

  truncate(size: number): void {
    this.#noticing(() => this.#open().truncate(size));
  }

  flush(): void {
    this.#noticing(() => this.#open().flush());
  }

  close(): void {
    const file = this.#file;
    this.#file = undefined;
    file?.close();
  }

  #open(): StoreFile {
    if (this.#file) return this.#file;
    throw { code: "closed", message: "the file was closed" };
  }

  #noticing(write: () => void): void {
    try {
      write();
    } catch (error) {
      if ((error as { code?: unknown } | null)?.code === "quota") this.#full();
      throw error;
    }
  }
}
