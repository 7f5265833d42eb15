/** Spaces: named sets of documents that are synced and granted together. */
import type { Doc } from "./doc.js";
import { Live } from "./live.js";
import type { CreateOptions } from "./options.js";
import type { Session } from "./session.js";
import { freeze } from "./values.js";

/** How much of a space this device keeps: every document, or only which there are, each being fetched when it is opened. */
export type Follow = "everything" | "listing";

/**
 * What the relay said last that this device may do in a space: `unknown` before it has said anything, `denied` if it does not give the
 * space or has none such. Whatever it is, everything may be written here; what the relay does not take is in {@link Repo.rejected}.
 */
export type SpaceRights = "unknown" | "denied" | "read" | "write" | "admin";

/** How a space makes documents, given by the Repo. */
type Create = <T extends object>(value: T, options: CreateOptions<T>) => Promise<Doc<T>>;

/**
 * A space: its documents, as a live list of ids, and how much of it this device keeps.
 *
 * @example
 * ```ts
 * const space = repo.space();
 * const todo = await space.create({ title: "Tea" });
 * console.assert((await space.load()).includes(todo.id));
 * ```
 */
export class Space extends Live<readonly string[]> {
  /** Its id, to be given to others. */
  readonly id: string;
  /**
   * What this device may do in it, as far as the relay has said.
   *
   * @example
   * ```ts
   * const stop = repo.space().rights.subscribe((rights) => console.log(rights === "read" ? "read only" : rights));
   * stop();
   * ```
   */
  readonly rights: Live<SpaceRights>;
  readonly #session: Session;
  readonly #create: Create;

  /** @internal */
  constructor(session: Session, id: string, create: Create) {
    super(async () => freeze(await session.call<string[]>("spaceList", id)));
    this.id = id;
    this.rights = new Live<SpaceRights>(() => session.call<SpaceRights>("spaceRights", id));
    this.#session = session;
    this.#create = create;
  }

  /**
   * Makes a document in this space.
   *
   * @example
   * ```ts
   * const todo = await repo.space().create({ title: "Tea" });
   * console.log(todo.url);
   * ```
   */
  create<T extends object>(value: T, options: Omit<CreateOptions<T>, "space"> = {}): Promise<Doc<T>> {
    return this.#create(value, { ...options, space: this.id });
  }

  /**
   * Lists the ids of its documents.
   *
   * @example
   * ```ts
   * for (const id of await repo.space().list()) console.log((await repo.find(id)).value);
   * ```
   */
  list(): Promise<readonly string[]> {
    return this.load();
  }

  /**
   * Chooses how much of it this device keeps up to date; null: nothing but what is opened.
   *
   * @example
   * ```ts
   * const space = repo.space();
   * await space.follow("everything");
   * console.assert((await space.following()) === "everything");
   * ```
   */
  async follow(how: Follow | null): Promise<void> {
    await this.#session.call("follow", this.id, how);
  }

  /**
   * Says how much of it this device keeps.
   *
   * @example
   * ```ts
   * console.log(await repo.space().following());
   * ```
   */
  following(): Promise<Follow | null> {
    return this.#session.call("following", this.id);
  }

  /**
   * Lists the documents that are known to be in it, and whose content is not here yet.
   *
   * @example
   * ```ts
   * const missing = await repo.space().unfetched();
   * console.log(`${missing.length} to come`);
   * ```
   */
  unfetched(): Promise<readonly string[]> {
    return this.#session.call("spaceUnfetched", this.id);
  }

  /**
   * Counts its changes that no relay has acknowledged.
   *
   * @example
   * ```ts
   * console.log(`${await repo.space().pending()} to be sent`);
   * ```
   */
  pending(): Promise<number> {
    return this.#session.call("pending", null, this.id);
  }
}
