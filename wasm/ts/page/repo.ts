/** The Repo: a page's door to its documents. */
import { Core } from "./core.js";
import { Doc, toContent } from "./doc.js";
import { Emitter } from "./emitter.js";
import { RejoinError } from "./errors.js";
import { newId, parseDocumentId, parseSpaceId } from "./ids.js";
import type { EngineEvent, Link, WireStatus } from "./link.js";
import { Live } from "./live.js";
import { Presence } from "./presence.js";
import { FOREVER } from "./receipt.js";
import { Rejected } from "./rejected.js";
import { Relay, type Token } from "./relay.js";
import type { CreateOptions, FindOptions, RepoOptions } from "./options.js";
import { check } from "./schema.js";
import { Session } from "./session.js";
import { Space } from "./space.js";
import { type Status, toStatus } from "./status.js";
import type { Schema, Unsubscribe } from "./types.js";
import { freeze } from "./values.js";

/** A document that somebody holds open. */
interface Held {
  readonly core: Core;
  readonly doc: Doc<object>;
  /** Whether it was asked for elsewhere too. */
  readonly fetch: boolean;
  readonly opened: Promise<boolean>;
}

/** Makes a space travel: null is the default one. */
const toSpace = (space: string | { readonly id: string } | undefined): string | null =>
  space === undefined ? null : typeof space === "string" ? parseSpaceId(space) : space.id;

/**
 * A page's door to its documents.
 *
 * Tabs that open the same name share one store and one connection.
 *
 * @example
 * ```ts
 * const mine = await Repo.open({ name: "notes" });
 * const note = await mine.create({ title: "Shopping" });
 * await note.set("title", "Groceries");
 * await mine.close();
 * ```
 */
export class Repo {
  /** The ids of all documents on this device, as a live list. */
  readonly documents: Live<readonly string[]>;
  /** The writes that a relay refused for good, as a live list. */
  readonly rejected: Rejected;

  readonly #session: Session;
  readonly #docs = new Map<string, Held>();
  readonly #spaces = new Map<string, Space>();
  readonly #presences = new Map<string, Presence>();
  readonly #told = new Emitter<Status>();
  #status: Status = freeze({ state: "none", pending: 0, storage: "memory" });
  readonly #relay: Relay | undefined;
  #tells = 0;
  #offline: boolean;
  /** How many calls that change that are under way. */
  #switching = 0;
  #closing: Promise<void> | undefined;

  private constructor(link: Link, options: RepoOptions) {
    const session = (this.#session = new Session(link));
    this.documents = new Live<readonly string[]>(async () => freeze(await session.call<string[]>("list")));
    this.rejected = new Rejected(session);
    const { relay, protocol, token } = options;
    const failed = (): void => this.#become({ ...this.#status, ...(this.#relay?.fault && { error: this.#relay.fault }) });
    this.#relay = relay === undefined ? undefined : new Relay(session, { url: relay, protocol, token }, failed);
    this.#offline = options.offline ?? false;
    link.onEvent((event) => this.#handle(event));
  }

  /**
   * Opens a store by its name and begins to sync. Resolves when documents can be read; it does not wait for the network.
   *
   * @example
   * ```ts
   * const notes = await Repo.open({
   *   name: "notes",
   *   relay: "wss://relay.example",
   *   token: async () => (await fetch("/token")).text(),
   *   offline: true,
   * });
   * console.log(notes.status.storage);
   * await notes.close();
   * ```
   */
  static async open(options: RepoOptions): Promise<Repo> {
    const { relay: _relay, token: _token, protocol: _protocol, offline: _offline, link: given, ...host } = options;
    const connect = given ?? (await import("../host/link.js")).connectLink;
    const link = typeof connect === "function" ? await connect(host) : connect;
    const repo = new Repo(link, options);
    try {
      // In this order: an engine that is told of the relay first would connect at once.
      if (repo.#offline) await repo.setOffline(true);
      void repo.#relay?.connect();
      await repo.#ask();
    } catch (error) {
      await link.close();
      throw error;
    }
    return repo;
  }

  /** How the connection and the store stand. Another object each time something changes. */
  get status(): Status {
    return this.#status;
  }

  /**
   * Calls a function with the status each time it changes.
   *
   * @example
   * ```ts
   * const stop = repo.subscribe(({ state, pending }) => console.log(state, pending));
   * stop();
   * ```
   */
  subscribe(handler: (status: Status) => void): Unsubscribe {
    return this.#told.on(handler);
  }

  /**
   * Makes a document. Resolves when it is safe on this device.
   *
   * @example
   * ```ts
   * type Todo = { title: string; done: boolean; notes: Text };
   * const todo = await repo.create<Todo>({ title: "Tea", done: false, notes: text() });
   * console.log(todo.url);
   * ```
   */
  async create<T extends object>(value: T, options: CreateOptions<T> = {}): Promise<Doc<T>> {
    const [tagged, content] = toContent(value);
    const { issues } = check(options.schema, content);
    if (issues) throw new RejoinError("bad_value", `the schema refuses this: ${issues[0]?.message}`, issues);
    const space = toSpace(options.space);
    const id = newId();
    const created = this.#session.track(this.#session.call("create", id, space, tagged));
    // Both requests travel together.
    const opened = this.#hold<T>(id, false, options.schema);
    try {
      await created;
    } catch (error) {
      opened.then((doc) => doc?.close()).catch(() => {});
      throw error;
    }
    const doc = (await opened) ?? (await this.#hold<T>(id, false, options.schema));
    if (!doc) throw new RejoinError("not_found", "the document was deleted while it was being made");
    return doc;
  }

  /**
   * Opens a document by its id or URL, here or from elsewhere, and waits until it has content. Rejects with `timeout` if none came in time.
   *
   * @example
   * ```ts
   * const same = await repo.find<{ title: string }>(doc.url, { wait: 5_000 });
   * console.log(same.value.title);
   * same.close();
   * ```
   */
  async find<T extends object = Record<string, any>>(idOrUrl: string, options: FindOptions<T> = {}): Promise<Doc<T>> {
    const id = parseDocumentId(idOrUrl);
    const doc = await this.#hold<T>(id, true, options.schema);
    if (!doc) throw new RejoinError("not_found", `no such document: ${id}`);
    if (doc.state !== "waiting") return doc;
    try {
      await this.#session.call("wait", id, Math.min(options.wait ?? FOREVER, FOREVER));
      // The patch that brought the content may have gone to nobody while the document was being opened.
      if ((doc.state as string) === "waiting") await this.#docs.get(id)?.core.open(true);
      return doc;
    } catch (error) {
      doc.close();
      throw error;
    }
  }

  /**
   * Opens a document by its id or URL if it is on this device, without asking anybody; null if it is not.
   *
   * @example
   * ```ts
   * const here = await repo.open<{ title: string }>(doc.id);
   * console.log(here?.value.title);
   * here?.close();
   * ```
   */
  async open<T extends object = Record<string, any>>(idOrUrl: string, options: Omit<FindOptions<T>, "wait"> = {}): Promise<Doc<T> | null> {
    return this.#hold<T>(parseDocumentId(idOrUrl), false, options.schema);
  }

  /**
   * Makes a document of bytes in Automerge's format, with its history.
   *
   * @example
   * ```ts
   * const copy = await repo.import<{ title: string }>(await doc.export());
   * console.log(copy.value.title);
   * ```
   */
  async import<T extends object = Record<string, any>>(bytes: Uint8Array, options: CreateOptions<T> = {}): Promise<Doc<T>> {
    const id = newId();
    await this.#session.track(this.#session.request("import", [id, toSpace(options.space)], bytes).result);
    return this.find(id, options.schema ? { schema: options.schema } : {});
  }

  /**
   * Lists the ids of all documents on this device.
   *
   * @example
   * ```ts
   * console.log((await repo.list()).length);
   * ```
   */
  list(): Promise<readonly string[]> {
    return this.documents.load();
  }

  /**
   * Deletes a document from this device. Elsewhere it stays.
   *
   * @example
   * ```ts
   * await repo.delete(doc.id);
   * ```
   */
  async delete(idOrUrl: string): Promise<void> {
    await this.#session.track(this.#session.call("delete", parseDocumentId(idOrUrl)));
  }

  /**
   * Deletes a document from this device, the relay and all other devices. It cannot be taken back.
   *
   * @example
   * ```ts
   * await repo.deleteEverywhere(doc.id);
   * ```
   */
  async deleteEverywhere(idOrUrl: string): Promise<void> {
    await this.#session.track(this.#session.call("deleteEverywhere", parseDocumentId(idOrUrl)));
  }

  /**
   * Returns a space by its id, or a new one. The same id gives the same object.
   *
   * @example
   * ```ts
   * const team = repo.space();
   * await team.create({ title: "Plan" });
   * console.assert(repo.space(team.id) === team);
   * ```
   */
  space(id?: string): Space {
    const known = id === undefined ? newId() : parseSpaceId(id);
    let space = this.#spaces.get(known);
    if (!space) {
      space = new Space(this.#session, known, (value, options) => this.create(value, options));
      this.#spaces.set(known, space);
    }
    return space;
  }

  /**
   * Returns the presence of a document: who else is there, and what they show.
   *
   * @example
   * ```ts
   * await repo.presence(doc).set("name", "Ada");
   * ```
   */
  presence(doc: { readonly id: string } | string): Presence {
    const id = typeof doc === "string" ? parseDocumentId(doc) : doc.id;
    let presence = this.#presences.get(id);
    if (!presence) this.#presences.set(id, (presence = new Presence(this.#session, id)));
    return presence;
  }

  /**
   * Leaves the network, or comes back. Offline, everything works as ever, and changes wait.
   *
   * @example
   * ```ts
   * await repo.setOffline(true);
   * await doc.set("title", "Written on a train");
   * await repo.setOffline(false);
   * ```
   */
  async setOffline(offline: boolean): Promise<void> {
    this.#offline = offline;
    this.#switching++;
    try {
      await this.#session.call("setOffline", offline);
    } finally {
      this.#switching--;
    }
  }

  /**
   * Gives the relay another token, or another way to get one.
   *
   * @example
   * ```ts
   * await repo.setToken(async () => (await fetch("/token")).text());
   * ```
   */
  async setToken(token: Token): Promise<void> {
    await this.#relay?.setToken(token);
  }

  /**
   * Asks the browser again not to evict the store, and says whether it promised that. Browsers are more willing after a click.
   *
   * @example
   * ```ts
   * if (!repo.status.persisted) console.log(await repo.persist());
   * ```
   */
  persist(): Promise<boolean> {
    return this.#session.call("persist");
  }

  /**
   * Waits until the relay has everything that was written here, and this device has what the relay had. Rejects with `timeout`.
   *
   * @example
   * ```ts
   * await repo.waitSynced(10_000);
   * ```
   */
  async waitSynced(milliseconds = FOREVER): Promise<void> {
    const limit = Math.min(milliseconds, FOREVER);
    const until = performance.now() + limit;
    // The engine answers when nothing waits here, which may be before anything was heard of the relay.
    await this.#session.call("synced", limit);
    if (this.#relay) await this.#caughtUp(until);
  }

  /**
   * Waits until the relay has everything, then deletes all documents from this device and closes. Nothing is deleted if it rejects.
   *
   * @example
   * ```ts
   * const shared = await Repo.open({ name: "kiosk" });
   * await shared.signOut({ wait: 10_000 });
   * ```
   */
  async signOut(options: { wait?: number } = {}): Promise<void> {
    await this.#session.call("signOut", Math.min(options.wait ?? FOREVER, FOREVER));
    await this.close();
  }

  /**
   * Ends this page's work: waits until its edits are safe, and lets go of everything.
   *
   * @example
   * ```ts
   * const other = await Repo.open({ name: "other" });
   * await other.close();
   * ```
   */
  close(): Promise<void> {
    this.#closing ??= this.#session.close().then(() => {
      for (const { core } of this.#docs.values()) core.close();
      this.#docs.clear();
    });
    return this.#closing;
  }

  /** Waits until the engine says that the relay and this device have the same. */
  async #caughtUp(until: number): Promise<void> {
    let told = (): void => {};
    const stop = this.#told.on(() => told());
    try {
      for (;;) {
        // Before it is asked: what is told while it answers must not be missed.
        const next = new Promise<void>((resolve) => (told = resolve));
        if ((await this.#session.call<WireStatus>("status")).state === "synced") return;
        const left = until - performance.now();
        if (left <= 0) throw new RejoinError("timeout", "failed to sync in time: what the relay has is not all here");
        let timer: ReturnType<typeof setTimeout> | undefined;
        const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, left)));
        await Promise.race([next, late, this.#session.ended]);
        clearTimeout(timer);
      }
    } finally {
      stop();
    }
  }

  /** Opens a document and counts who holds it. Null if it is not here and was not to be fetched. */
  async #hold<T extends object>(id: string, fetch: boolean, schema?: Schema<T>): Promise<Doc<T> | null> {
    const known = this.#docs.get(id);
    // One that was deleted is asked for anew.
    const held = known && known.core.state !== "deleted" ? known : this.#begin(id, fetch);
    const { core, doc, opened } = held;
    if (schema) core.schema = schema as Schema<unknown>;
    core.holders++;
    let found = false;
    try {
      found = await opened;
    } finally {
      if (!found) this.#release(core, true);
    }
    if (found) return doc as unknown as Doc<T>;
    // Somebody else had looked for it here only.
    return fetch && !held.fetch ? this.#hold(id, fetch, schema) : null;
  }

  #begin(id: string, fetch: boolean): Held {
    const core = new Core(this.#session, id);
    const doc = new Doc<object>(
      core,
      (other) => this.find(other),
      () => this.#release(core),
    );
    const held: Held = { core, doc, fetch, opened: core.open(fetch) };
    this.#docs.set(id, held);
    const forget = (): void => {
      if (this.#docs.get(id) === held) this.#docs.delete(id);
    };
    held.opened.then((found) => found || forget(), forget);
    return held;
  }

  #release(core: Core, absent = false): void {
    if (core.holders === 0 || --core.holders > 0) return;
    core.close();
    if (this.#docs.get(core.id)?.core !== core) return;
    this.#docs.delete(core.id);
    if (!absent && !this.#session.closed) this.#session.call("close", core.id).catch(() => {});
  }

  #handle(event: EngineEvent): void {
    switch (event.e) {
      case "patch":
        this.#docs.get(event.doc)?.core.handle(event);
        break;
      case "status":
        this.#tell(event);
        this.#relay?.heard(event);
        break;
      case "pending":
        for (const [id, count] of Object.entries(event.docs)) {
          const held = this.#docs.get(id);
          if (held) held.core.unacknowledged = count;
        }
        this.#become({ ...this.#status, pending: event.total });
        break;
      case "presence":
        this.#presences.get(event.doc)?.tell(event.values);
        break;
      case "list":
        this.documents.refresh();
        break;
      case "space":
        this.#spaces.get(event.space)?.refresh();
        this.#spaces.get(event.space)?.rights.refresh();
        break;
      case "doc":
        this.#befall(event.doc, event.kind);
        break;
      case "engine":
        this.#again(event.lost);
        break;
    }
  }

  #befall(id: string, kind: "deleted" | "rejected" | "rewritten"): void {
    const core = this.#docs.get(id)?.core;
    if (kind === "rejected") this.rejected.refresh();
    else if (kind === "rewritten") core?.reopen();
    else core?.become(kind);
  }

  /** Another engine serves this page: it knows the store, and nothing of what this page was looking at. */
  #again(lost = false): void {
    if (this.#session.closed) return;
    if (this.#offline) this.setOffline(true).catch(() => {});
    void this.#relay?.connect();
    for (const { core } of this.#docs.values()) core.reopen(lost);
    for (const presence of this.#presences.values()) presence.again();
    for (const live of [this.documents, this.rejected, ...this.#spaces.values()]) live.refresh();
    this.#ask().catch(() => {
      // The next event says it.
    });
  }

  async #ask(): Promise<void> {
    const before = this.#tells;
    const told = await this.#session.call<WireStatus>("status");
    // An event that came with the answer was handled before it, and knows more.
    if (before === this.#tells) this.#tell(told);
  }

  #tell(told: WireStatus): void {
    this.#tells++;
    const status = toStatus(told);
    // Another tab has come back to the network, for all: the next engine is not to be told otherwise.
    if (!this.#switching && status.state !== "offline" && status.state !== "none") this.#offline = false;
    // Why there is no token is not known to the engine.
    const fault = this.#relay?.fault;
    this.#become(fault && !status.error ? { ...status, error: fault } : status);
  }

  #become(status: Status): void {
    this.#status = freeze(status);
    this.#told.emit(status);
  }
}
