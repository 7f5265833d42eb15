/** Documents, as an application holds them. */
import { applied, type Core, type DocumentState, type EditOptions, toSaid } from "./core.js";
import { type Edit, record, unwrap } from "./draft.js";
import { RejoinError } from "./errors.js";
import { documentUrl, newId, parseDocumentId } from "./ids.js";
import type { Tagged, WirePatch, WirePath } from "./link.js";
import { Receipt } from "./receipt.js";
import { toPatch, toStep } from "./snapshot.js";
import { TextHandle } from "./text.js";
import type { DocumentChange, Draft, Input, Issue, OptionalKey, Patch, Path, Snapshot, Unsubscribe } from "./types.js";
import { decode, encode, freeze, type Value } from "./values.js";

/** One change of a document's history. */
export interface HistoryEntry {
  /** Its hash. `doc.at([hash])` reads the document as it was after it. */
  readonly hash: string;
  /** The hashes of the changes it was made on. */
  readonly deps: readonly string[];
  /** The device and process that made it, in hex. */
  readonly actor: string;
  /** Whom the relay says it is from, where that is known. */
  readonly author: string | null;
  /** How many changes that actor had made with it. */
  readonly seq: number;
  /** When it was made, by the clock of its maker. */
  readonly time: Date | null;
  /** What its maker said of it. */
  readonly message: string | null;
  /** How many operations it has. */
  readonly ops: number;
}

/** One of the values that were written to a field at the same time. */
export interface Conflict<T = unknown> {
  /** Names the write. */
  readonly id: string;
  /** What was written. */
  readonly value: Snapshot<T>;
}

/** How to open another document, given by the Repo. */
export type OpenDocument = (id: string) => Promise<Doc<object>>;

/** What is keyed by strings. */
type Key<T> = keyof T & string;

/**
 * An open document. Reads are immediate; writes show at once and return a promise of a {@link Receipt}.
 *
 * A Repo hands out the same Doc for the same document; whoever opened it closes it.
 *
 * @example
 * ```ts
 * const todo = await repo.create({ title: "Tea", done: false });
 * const stop = todo.subscribe(({ value }) => console.log(value.title, value.done));
 * await todo.set("done", true);
 * stop();
 * todo.close();
 * ```
 */
export class Doc<T extends object = Record<string, any>> {
  readonly #core: Core;
  readonly #open: OpenDocument;
  readonly #release: () => void;

  /** @internal */
  constructor(core: Core, open: OpenDocument, release: () => void) {
    this.#core = core;
    this.#open = open;
    this.#release = release;
  }

  /** Its id: base 58 with a checksum. */
  get id(): string {
    return this.#core.id;
  }

  /** Its URL, `automerge:<id>`, as automerge-repo writes it. */
  get url(): string {
    return documentUrl(this.id);
  }

  /** The id of the space it is in. */
  get space(): string | null {
    return this.#core.space;
  }

  /** How it is: waiting for its content, open, deleted, or closed. */
  get state(): DocumentState {
    return this.#core.state;
  }

  /** The hashes that name the state which the store has; this page's edits on the way to it are not in them. */
  get heads(): readonly string[] {
    return this.#core.heads;
  }

  /** How many of its changes no relay has acknowledged. */
  get pending(): number {
    return this.#core.pending;
  }

  /**
   * Its value now, this page's own edits included. It is immutable, and what does not change keeps its identity.
   *
   * @example
   * ```ts
   * const todo = await repo.create({ title: "Tea", tags: ["hot"] });
   * const before = todo.value;
   * await todo.set("title", "Coffee");
   * console.assert(before.title === "Tea" && before.tags === todo.value.tags);
   * ```
   */
  get value(): Snapshot<T> {
    return this.#core.value as Snapshot<T>;
  }

  /** Whether the schema it was opened with finds nothing wrong. Changes from elsewhere are not checked before they arrive. */
  get valid(): boolean {
    return !this.#core.checked.issues;
  }

  /**
   * What the schema finds wrong with the value now.
   *
   * @example
   * ```ts
   * for (const issue of doc.issues) console.warn(issue.message);
   * ```
   */
  get issues(): readonly Issue[] {
    return this.#core.checked.issues ?? [];
  }

  /**
   * Reads one field, or what is at a path of keys and indices.
   *
   * @example
   * ```ts
   * const todo = await repo.create({ title: "Tea", tags: ["hot"] });
   * console.assert(todo.get("title") === "Tea");
   * console.assert(todo.get(["tags", 0]) === "hot");
   * ```
   */
  get<K extends Key<T>>(key: K): Snapshot<T[K]>;
  get(path: Path): unknown;
  get(path: string | Path): unknown {
    return this.#core.read(toPath(path));
  }

  /**
   * Writes one field, or an element of a list. A string over a {@link Text} changes what differs.
   *
   * Rejects with TypeError for `undefined`, and with `bad_value`, `wrong_path`, `deleted`, `store_full` and the like.
   *
   * @example
   * ```ts
   * const todo = await repo.create({ title: "Tea", owner: { name: "Ada" } });
   * await todo.set("title", "Coffee");
   * await todo.set(["owner", "name"], "Grace");
   * ```
   */
  set<K extends Key<T>>(key: K, value: Input<Exclude<T[K], undefined>>, options?: EditOptions): Promise<Receipt>;
  set(path: Path, value: unknown, options?: EditOptions): Promise<Receipt>;
  async set(key: string | Path, value: unknown, options?: EditOptions): Promise<Receipt> {
    const path = toPath(key);
    const tagged = encode(value, path.join("."), unwrap);
    return this.#core.edit(applied({ ops: [["set", path, tagged]], steps: [["set", path, decode(tagged)]] }), options);
  }

  /**
   * Deletes a field. One that is not there is left alone.
   *
   * @example
   * ```ts
   * const todo = await repo.create<{ title: string; due?: Date }>({ title: "Tea", due: new Date() });
   * await todo.delete("due");
   * ```
   */
  delete(key: OptionalKey<T> & string, options?: EditOptions): Promise<Receipt>;
  delete(path: Path, options?: EditOptions): Promise<Receipt>;
  async delete(key: string | Path, options?: EditOptions): Promise<Receipt> {
    const path = toPath(key);
    const edit: Edit = this.#core.read(path) === undefined ? { ops: [], steps: [] } : { ops: [["delete", path]], steps: [["delete", path]] };
    return this.#core.edit(applied(edit), options);
  }

  /**
   * Adds to a counter, 1 by default. Concurrent increments all count.
   *
   * @example
   * ```ts
   * const poll = await repo.create({ yes: new Counter(), no: new Counter() });
   * await poll.increment("yes");
   * await poll.increment("no", -1);
   * console.assert(poll.value.yes.value === 1);
   * ```
   */
  async increment(key: Key<T> | Path, by = 1, options?: EditOptions): Promise<Receipt> {
    if (!Number.isSafeInteger(by)) throw new RejoinError("bad_argument", "a counter counts in integers");
    const path = toPath(key);
    return this.#core.edit(applied({ ops: [["increment", path, by]], steps: [["increment", path, by]] }), options);
  }

  /**
   * Edits several things in one change. The function gets a draft to write to; only what it changes is written, so that what others change
   * meanwhile merges. Nothing is written if it throws.
   *
   * Lists take `push`, `pop`, `shift`, `unshift`, `splice` and writes to an index. What is assigned is copied.
   *
   * @example
   * ```ts
   * const list = await repo.create({ items: [{ name: "tea", done: false }], votes: new Counter() });
   * await list.change((draft) => {
   *   draft.items[0]!.done = true;
   *   draft.items.push({ name: "milk", done: false });
   *   draft.votes.increment();
   * }, { message: "after shopping" });
   * console.assert(list.value.items.length === 2);
   * ```
   */
  async change(edit: (draft: Draft<T>) => void, options?: EditOptions): Promise<Receipt> {
    return this.#core.edit((editor) => record(editor, edit as (draft: never) => void), options);
  }

  /**
   * Returns a handle to a text: its characters, marks, blocks and cursors.
   *
   * @example
   * ```ts
   * const note = await repo.create({ body: text("Hello") });
   * await note.text("body").splice(5, 0, ", world");
   * console.assert(note.value.body === "Hello, world");
   * ```
   */
  text(key: Key<T> | Path): TextHandle {
    return new TextHandle(this.#core, toPath(key));
  }

  /**
   * Reads all values that were written to a field at the same time, the winner first. One value means that there is no conflict.
   *
   * @example
   * ```ts
   * const [winner, ...losers] = await doc.conflicts("title");
   * console.log(winner?.value, losers.length);
   * ```
   */
  conflicts<K extends Key<T>>(key: K): Promise<Conflict<T[K]>[]>;
  conflicts(path: Path): Promise<Conflict[]>;
  async conflicts(key: string | Path): Promise<Conflict[]> {
    const found = await this.#call<{ id: string; value: Tagged }[]>("conflicts", toPath(key));
    return found.map(({ id, value }) => ({ id, value: decode(value) }));
  }

  /**
   * Calls a function after each change of the value: at once for an edit of this page, once per turn for what comes from elsewhere.
   *
   * @example
   * ```ts
   * const stop = doc.subscribe(({ patches, origin, value }) => {
   *   if (origin === "remote") console.log(patches, value);
   * });
   * stop();
   * ```
   */
  subscribe(handler: (change: DocumentChange<T>) => void): Unsubscribe {
    return this.#core.told.on(handler as (change: DocumentChange<unknown>) => void);
  }

  /**
   * Lists its changes, oldest first.
   *
   * @example
   * ```ts
   * for (const { time, message } of await doc.history()) console.log(time, message);
   * ```
   */
  async history(): Promise<HistoryEntry[]> {
    type Told = Omit<HistoryEntry, "time"> & { time: number | null };
    const entries = await this.#call<Told[]>("history");
    return entries.map((entry) => ({ ...entry, time: entry.time ? new Date(entry.time) : null }));
  }

  /**
   * Reads the document as it was at some heads, or one value of it. Rejects with `unknown_heads`.
   *
   * @example
   * ```ts
   * const todo = await repo.create({ title: "Tea" });
   * const before = todo.heads;
   * await todo.set("title", "Coffee");
   * console.assert((await todo.at(before)).title === "Tea");
   * ```
   */
  at(heads: readonly string[]): Promise<Snapshot<T>>;
  at(heads: readonly string[], path: Path): Promise<unknown>;
  async at(heads: readonly string[], path?: Path): Promise<unknown> {
    return decode(await this.#call<Tagged>("at", heads, path ?? null));
  }

  /**
   * Finds the steps that lead from one state to another, in either direction.
   *
   * @example
   * ```ts
   * const before = doc.heads;
   * await doc.set("title", "Coffee");
   * console.log(await doc.diff(before, doc.heads));
   * ```
   */
  async diff(from: readonly string[], to: readonly string[] = this.heads): Promise<Patch[]> {
    return (await this.#call<WirePatch[]>("diff", from, to)).map((patch) => toPatch(toStep(patch)));
  }

  /**
   * Makes the document what it was at some heads, by a new change on top of what came since.
   *
   * @example
   * ```ts
   * const before = doc.heads;
   * await doc.set("title", "A mistake");
   * await doc.restore(before);
   * ```
   */
  async restore(heads: readonly string[], options: EditOptions = {}): Promise<Receipt> {
    const written = this.#call<{ change: string | null } | null>("restore", heads, toSaid(options));
    return new Receipt(this.#core.session, this.id, (await this.#core.session.track(written))?.change ?? null);
  }

  /**
   * Makes a new document in the space of this one, with its history, up to some heads if they are given.
   *
   * @example
   * ```ts
   * const draft = await doc.fork();
   * await draft.set("title", "Another way");
   * await doc.merge(draft);
   * ```
   */
  async fork(options: { heads?: readonly string[] } = {}): Promise<Doc<T>> {
    const id = newId();
    await this.#core.session.track(this.#call("fork", id, options.heads ?? null));
    return (await this.#open(id)) as unknown as Doc<T>;
  }

  /**
   * Takes in the changes of another document that was forked from the same one. Returns how many were new.
   *
   * @example
   * ```ts
   * const draft = await doc.fork();
   * await draft.set("title", "Another way");
   * console.assert((await doc.merge(draft)) === 1);
   * ```
   */
  merge(other: Doc<T> | string): Promise<number> {
    return this.#core.session.track(this.#call<number>("merge", typeof other === "string" ? parseDocumentId(other) : other.id));
  }

  /**
   * Writes the document with its history in Automerge's format, which `repo.import` and every Automerge library read.
   *
   * @example
   * ```ts
   * const copy = await repo.import(await doc.export());
   * console.assert(copy.id !== doc.id);
   * ```
   */
  export(): Promise<Uint8Array> {
    return this.#call<Uint8Array>("export");
  }

  /**
   * Lets go of the document: once for each time it was opened. Edits on their way are still written.
   *
   * @example
   * ```ts
   * const same = await repo.find(doc.id);
   * same.close();
   * ```
   */
  close(): void {
    this.#release();
  }

  #call<Answer>(method: string, ...args: unknown[]): Promise<Answer> {
    return this.#core.session.call<Answer>(method, this.id, ...args);
  }
}

/** Reads a key or a path as a path. */
export function toPath(key: string | Path): WirePath {
  const path = typeof key === "string" ? [key] : [...key];
  if (!path.every((step) => typeof step === "string" || (Number.isSafeInteger(step) && step >= 0))) {
    throw new RejoinError("bad_argument", "a path consists of keys and indices");
  }
  return path;
}

/** Makes the value of a new document travel: a map, checked before. */
export function toContent(value: object): [tagged: Tagged, value: Value] {
  const tagged = encode(value, "the document", unwrap);
  if (typeof tagged !== "object" || tagged === null || Array.isArray(tagged)) throw new RejoinError("bad_value", "a document is a plain object");
  return [tagged, freeze(decode(tagged) as object) as Value];
}
