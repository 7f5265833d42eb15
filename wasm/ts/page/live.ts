/** Live lists: what the engine knows, loaded when asked for and again whenever it says that something came or went. */
import { Emitter, report } from "./emitter.js";
import { RejoinError } from "./errors.js";
import { share } from "./snapshot.js";
import type { Unsubscribe } from "./types.js";

/**
 * A value that the engine keeps up to date.
 *
 * @example
 * ```ts
 * const stop = repo.documents.subscribe((ids) => console.log(`${ids.length} documents`));
 * await repo.create({ title: "Tea" });
 * stop();
 * ```
 */
export class Live<T> {
  readonly #fetch: () => Promise<T>;
  readonly #told = new Emitter<T>(() => this.refresh());
  #value: T | undefined;
  #loading: Promise<T> | undefined;
  #again = false;

  /** @internal */
  constructor(fetch: () => Promise<T>) {
    this.#fetch = fetch;
  }

  /** What was loaded last; undefined before the first time. It keeps its identity while nothing changes. */
  get value(): T | undefined {
    return this.#value;
  }

  /**
   * Asks for the value as it is now.
   *
   * @example
   * ```ts
   * const ids = await repo.documents.load();
   * console.assert(ids.includes(doc.id));
   * ```
   */
  load(): Promise<T> {
    // An answer that is under way may have been made before what the caller did last.
    if (this.#loading) {
      this.#again = true;
      return this.#loading;
    }
    return (this.#loading = this.#load());
  }

  /**
   * Calls a function with the value as soon as it is there, and each time it changes.
   *
   * @example
   * ```ts
   * const stop = repo.documents.subscribe((ids) => console.log(ids));
   * stop();
   * ```
   */
  subscribe(handler: (value: T) => void): Unsubscribe {
    let isOn = true;
    const stop = this.#told.on(handler);
    const value = this.#value;
    if (value !== undefined) queueMicrotask(() => isOn && this.#value === value && handler(value));
    return () => {
      isOn = false;
      stop();
    };
  }

  /** Loads again, if anybody wants to know. @internal */
  refresh(): void {
    if (!this.#told.size) return;
    this.load().catch((error: unknown) => {
      if (!(error instanceof RejoinError && error.code === "closed")) report(error);
    });
  }

  async #load(): Promise<T> {
    let value: T;
    try {
      do {
        this.#again = false;
        value = await this.#fetch();
      } while (this.#again);
    } finally {
      this.#loading = undefined;
    }
    const shared = share(this.#value, value) as T;
    if (shared !== this.#value) {
      this.#value = shared;
      this.#told.emit(shared);
    }
    return shared;
  }
}
