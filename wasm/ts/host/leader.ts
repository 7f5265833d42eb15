/**
 * A tab's worker among the workers of the other tabs: one of them leads, which is to say that it holds the Web Lock `rejoin:<name>` and runs
 * the engine for all; the others pass on what their page says.
 *
 * Locks: `rejoin:<name>` is the lead. `rejoin:<name>:<session>` is held by the worker of each page, so that the leader (and the page) hears of its end.
 * Channels: on `rejoin:<name>` a new leader announces itself; on `rejoin:<name>:leader` it listens; on `rejoin:<name>:<session>` a page's worker listens, so
 * that what is said to one tab does not wake up all of them.
 *
 * Hand-over: the leader ends in whatever way -> the browser frees its lock and the next in the queue leads -> it announces itself -> the others say hello and
 * are attached -> pages are told of another engine and send again what was not answered, the new leader's own page among them.
 */
import { failure, MESSAGES_VERSION, type Failure, type Start, type ToLeader, type ToPage, type ToSession, type ToWorker } from "./messages.js";
import { LOAD_RETRY_MS } from "./limits.js";
import { Server, type ServerOptions } from "./server.js";

/** What is used of a BroadcastChannel. */
export interface Channel {
  onmessage: ((event: { data: unknown }) => void) | null;
  postMessage(message: unknown): void;
  close(): void;
}

/** What is used of the Web Locks. */
export interface Locks {
  request(name: string, options: { signal?: AbortSignal }, held: () => Promise<void> | void): Promise<unknown>;
}

/** The world of a worker. */
export interface Around {
  /** Absent (insecure origins, Node): this worker leads, and is alone. */
  locks?: Locks | undefined;
  channel(name: string): Channel;
  serve(start: Start): Promise<Omit<ServerOptions, "failed">>;
  /** Gets what it takes to lead, so that the lead can be taken over offline, and at once. */
  preload?(start: Start): Promise<unknown>;
}

/** A worker's part, between its page and the leader. */
export class Tab {
  #start: Start;
  #post: (message: ToPage) => void;
  #around: Around;
  #name: string;
  /** Ends what was begun: queueing for the locks, holding them, listening. Undefined while paused. */
  #stay: Stay | undefined;
  #isOnline: boolean | undefined;
  #wasServed = false;
  /** The page is put to sleep, or closed. */
  #isAway = false;

  constructor(start: Start, post: (message: ToPage) => void, around: Around) {
    this.#start = start;
    this.#post = post;
    this.#around = around;
    // Escaped, so that no store's name together with a suffix is the name of another.
    this.#name = `rejoin:${encodeURIComponent(start.name)}`;
    this.#begin();
  }

  /** Takes a message of the page. */
  handle(message: ToWorker): void {
    const { session } = this.#start;
    const stay = this.#stay;
    switch (message.t) {
      case "requests":
        if (stay?.server) stay.server.requests(session, message.tag, message.acked, message.list);
        else stay?.toLeader?.postMessage({ ...message, session } satisfies ToLeader);
        break;
      case "online":
        this.#isOnline = message.is;
        stay?.server?.online(message.is);
        break;
      case "evicted":
        stay?.server?.evicted();
        stay?.toLeader?.postMessage({ t: "evicted" } satisfies ToLeader);
        break;
      case "pause":
        this.#isAway = true;
        void this.#end();
        break;
      case "resume":
        this.#isAway = false;
        this.#begin();
        break;
      case "stepBack":
        void this.#end().then(() => setTimeout(() => this.#begin(), LOAD_RETRY_MS));
        break;
      case "close":
        this.#isAway = true;
        void this.#end().then(() => this.#post({ t: "closed" }));
        break;
      case "start":
        break;
    }
  }

  #begin(): void {
    if (this.#stay || this.#isAway) return;
    const stay = new Stay();
    this.#stay = stay;
    const { locks } = this.#around;
    if (!locks) {
      void this.#lead(stay);
      return;
    }
    // Held until the stay ends. A lock that was asked for and not granted is given up then: a frozen worker must not be next in the queue.
    const hold = (name: string, held: () => void): void => {
      const done = locks.request(name, { signal: stay.abort.signal }, () => {
        if (stay.abort.signal.aborted) return;
        held();
        return stay.over;
      });
      done.catch((error: unknown) => {
        if (!stay.abort.signal.aborted) this.#post({ t: "failed", failure: failure(error) });
      });
    };
    hold(`${this.#name}:${this.#start.session}`, () => {
      this.#post({ t: "ready" });
      this.#follow(stay);
      hold(this.#name, () => void this.#lead(stay));
    });
  }

  /** Listens to the leader, whoever it is. */
  #follow(stay: Stay): void {
    const { session } = this.#start;
    const own = stay.channel(this.#around.channel(`${this.#name}:${session}`));
    own.onmessage = ({ data }) => {
      if (stay.server) return;
      const message = data as ToSession;
      if (message.t === "engine") this.#served();
      // Whoever is turned away, or signed out, must not lead either.
      if (message.t === "failed") void this.#end();
      this.#post(message);
    };
    const toLeader = stay.channel(this.#around.channel(`${this.#name}:leader`));
    stay.toLeader = toLeader;
    const hello = (): void => toLeader.postMessage({ t: "hello", v: MESSAGES_VERSION, session } satisfies ToLeader);
    const common = stay.channel(this.#around.channel(this.#name));
    common.onmessage = () => {
      if (!stay.server) hello();
    };
    stay.announce = () => common.postMessage({ t: "lead" });
    this.#post({ t: "leads", is: false });
    hello();
  }

  /** Notes that the page has an engine. A worker that follows gets ready to lead meanwhile. */
  #served(): void {
    if (!this.#wasServed && !this.#stay?.server) this.#around.preload?.(this.#start).catch(() => {});
    this.#wasServed = true;
  }

  /** Runs the engine for all. */
  async #lead(stay: Stay): Promise<void> {
    const { session } = this.#start;
    // Beside the opening of the file, not after it. What goes wrong with it is told by whoever waits for it.
    this.#around.preload?.(this.#start).catch(() => {});
    try {
      const options = await this.#around.serve(this.#start);
      if (stay.abort.signal.aborted) {
        await options.place.release();
        return;
      }
      // Whoever cannot open the store steps back, and lets the others find out for themselves.
      const server = new Server({ ...options, failed: (why) => this.#fail(stay, why) });
      stay.server = server;
      if (this.#around.locks) this.#listen(stay, server);
      this.#post({ t: "leads", is: true });
      server.attach(session, (message) => {
        if (message.t === "engine") this.#served();
        this.#post(message);
      }, true);
      stay.announce();
      await server.start();
      if (this.#isOnline !== undefined) server.online(this.#isOnline);
    } catch (error) {
      this.#fail(stay, failure(error));
    }
  }

  #fail(stay: Stay, why: Failure): void {
    if (stay.abort.signal.aborted) return;
    // The page worked a moment ago, and only the network is missing: another tab may have what this one lacks, or it comes back.
    if (why.code === "unsupported" && this.#wasServed) {
      this.#post({ t: "stepsBack" });
      return;
    }
    void this.#end();
    this.#post({ t: "failed", failure: why });
  }

  /** Hears the workers of the other tabs. */
  #listen(stay: Stay, server: Server): void {
    const channels = new Map<string, Channel>();
    const attach = (session: string): void => {
      const known = channels.get(session);
      const channel = known ?? stay.channel(this.#around.channel(`${this.#name}:${session}`));
      if (!known) {
        channels.set(session, channel);
        this.#watch(stay, session, () => gone(session));
      }
      server.attach(session, (message) => channel.postMessage(message));
    };
    const gone = (session: string): void => {
      server.detach(session);
      const channel = channels.get(session);
      if (channel) stay.drop(channel);
      channels.delete(session);
    };
    const inbox = stay.channel(this.#around.channel(`${this.#name}:leader`));
    inbox.onmessage = ({ data }) => {
      const message = data as ToLeader;
      if (message.t === "hello" && message.v !== MESSAGES_VERSION) this.#turnAway(message.session);
      else if (message.t === "hello") attach(message.session);
      else if (message.t === "bye") gone(message.session);
      else if (message.t === "evicted") server.evicted();
      else if (channels.has(message.session)) server.requests(message.session, message.tag, message.acked, message.list);
      else attach(message.session);
    };
  }

  /** Learns of the end of a session: its lock is free then. */
  #watch(stay: Stay, session: string, gone: () => void): void {
    this.#around.locks
      ?.request(`${this.#name}:${session}`, { signal: stay.abort.signal }, () => {
        if (!stay.abort.signal.aborted) gone();
      })
      .catch(() => {});
  }

  #turnAway(session: string): void {
    const channel = this.#around.channel(`${this.#name}:${session}`);
    const why: Failure = { code: "store_in_use", message: "another tab runs another version of this application: close or reload it" };
    channel.postMessage({ t: "failed", failure: why } satisfies ToSession);
    channel.close();
  }

  /** Hands over: closes the engine, says goodbye, frees the locks. */
  async #end(): Promise<void> {
    const stay = this.#stay;
    if (!stay) return;
    this.#stay = undefined;
    stay.abort.abort();
    stay.toLeader?.postMessage({ t: "bye", session: this.#start.session } satisfies ToLeader);
    await stay.server?.close();
    stay.end();
  }
}

/** One uninterrupted stay among the workers; a paused page begins another. */
class Stay {
  readonly abort = new AbortController();
  readonly over: Promise<void>;
  server: Server | undefined;
  toLeader: Channel | undefined;
  announce: () => void = () => {};
  #resolve: () => void = () => {};
  #channels = new Set<Channel>();

  constructor() {
    this.over = new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }

  channel(channel: Channel): Channel {
    this.#channels.add(channel);
    return channel;
  }

  drop(channel: Channel): void {
    this.#channels.delete(channel);
    channel.onmessage = null;
    channel.close();
  }

  end(): void {
    for (const channel of this.#channels) this.drop(channel);
    this.#resolve();
  }
}
