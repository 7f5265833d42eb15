/** Presence: what is true only now, such as who looks at a document and where. It is never stored. */
import { unwrap } from "./draft.js";
import { Emitter, report } from "./emitter.js";
import { RejoinError } from "./errors.js";
import type { WirePresence } from "./link.js";
import type { Session } from "./session.js";
import { share } from "./snapshot.js";
import type { Unsubscribe } from "./types.js";
import { decode, encode, freeze } from "./values.js";

/** One value that somebody shows. */
export interface PresenceValue {
  /** Whose it is: a device and process. */
  readonly author: string;
  readonly key: string;
  readonly value: unknown;
  /** Whether this device shows it. */
  readonly own: boolean;
  /** When it was set. */
  readonly since: Date;
}

/**
 * The presence of a document.
 *
 * @example
 * ```ts
 * const presence = repo.presence(doc);
 * const stop = presence.subscribe((values) => console.log(values.map(({ author, value }) => [author, value])));
 * await presence.set("cursor", { at: 12 });
 * stop();
 * ```
 */
export class Presence {
  readonly #session: Session;
  readonly #doc: string;
  readonly #told = new Emitter<readonly PresenceValue[]>(
    () => this.#watch(),
    () => this.#quietly("presenceUnwatch"),
  );
  /** What this page shows, to be shown again through another engine. */
  readonly #own = new Map<string, unknown[]>();
  #values: readonly PresenceValue[] = freeze([]);
  /** Counts what the engine has told without being asked. */
  #heard = 0;

  /** @internal */
  constructor(session: Session, doc: string) {
    this.#session = session;
    this.#doc = doc;
  }

  /** What is shown now; kept up to date while there is a subscriber. */
  get values(): readonly PresenceValue[] {
    return this.#values;
  }

  /**
   * Shows a value to everybody who has the document open, until it is cleared, this page is gone, or `ttl` milliseconds have passed.
   *
   * @example
   * ```ts
   * await repo.presence(doc).set("typing", true, { ttl: 3000 });
   * ```
   */
  async set(key: string, value: unknown, options: { ttl?: number } = {}): Promise<void> {
    const args = [key, encode(value, key, unwrap), options.ttl ?? null];
    if (options.ttl === undefined) this.#own.set(key, args);
    else this.#own.delete(key);
    await this.#session.call("presenceSet", this.#doc, ...args);
  }

  /**
   * Shows a value no longer.
   *
   * @example
   * ```ts
   * await repo.presence(doc).clear("typing");
   * ```
   */
  async clear(key: string): Promise<void> {
    this.#own.delete(key);
    await this.#session.call("presenceClear", this.#doc, key);
  }

  /**
   * Calls a function with all values each time one comes, changes or goes.
   *
   * @example
   * ```ts
   * const stop = repo.presence(doc).subscribe((values) => console.log(values.length));
   * stop();
   * ```
   */
  subscribe(handler: (values: readonly PresenceValue[]) => void): Unsubscribe {
    return this.#told.on(handler);
  }

  /** @internal */
  tell(values: readonly WirePresence[]): void {
    this.#heard++;
    this.#take(values);
  }

  #take(values: readonly WirePresence[]): void {
    const read = values.map((told) => freeze({ ...told, value: decode(told.value), since: new Date(told.since) }));
    const shared = share(this.#values, freeze(read));
    if (shared === this.#values) return;
    this.#values = shared;
    this.#told.emit(shared);
  }

  /** Another engine serves this page. @internal */
  again(): void {
    if (this.#told.size) this.#watch();
    for (const args of this.#own.values()) this.#quietly("presenceSet", ...args);
  }

  #watch(isFirst = true): void {
    const heard = this.#heard;
    this.#session.call<WirePresence[]>("presenceWatch", this.#doc).then((values) => {
      // An answer takes a few turns to come through, and an event may have overtaken it: then it is old, unless the event is of an earlier watch.
      if (heard === this.#heard) this.#take(values ?? []);
      else if (isFirst && this.#told.size) this.#watch(false);
    }, unlessClosed);
  }

  #quietly(method: string, ...args: unknown[]): void {
    if (!this.#session.closed) this.#session.call(method, this.#doc, ...args).catch(unlessClosed);
  }
}

function unlessClosed(error: unknown): void {
  if (!(error instanceof RejoinError && error.code === "closed")) report(error);
}
