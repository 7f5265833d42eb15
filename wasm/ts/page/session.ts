/** A session: this page's talk with the engine, shared by everything that a Repo hands out. */
import { RejoinError } from "./errors.js";
import type { Link } from "./link.js";

export class Session {
  readonly #link: Link;
  readonly #writes = new Set<Promise<unknown>>();
  closed = false;
  /** Resolves when the talk ends. */
  readonly ended: Promise<void>;
  #end: () => void = () => {};

  constructor(link: Link) {
    this.#link = link;
    this.ended = new Promise((resolve) => (this.#end = resolve));
  }

  /** Sends a request whose id matters. */
  request(method: string, args: unknown[], bytes?: Uint8Array): { id: number; result: Promise<unknown> } {
    if (this.closed) throw new RejoinError("closed", "the repo is closed");
    const { id, result } = bytes ? this.#link.request(method, args, bytes) : this.#link.request(method, args);
    return {
      id,
      result: result.catch((error: unknown) => {
        throw RejoinError.from(error);
      }),
    };
  }

  /** Sends a request and waits for its answer. */
  async call<Answer = unknown>(method: string, ...args: unknown[]): Promise<Answer> {
    return (await this.request(method, args).result) as Answer;
  }

  /** Keeps the session open until a write has been answered. */
  track<Answer>(write: Promise<Answer>): Promise<Answer> {
    const settled = write.then(
      () => {},
      () => {},
    );
    this.#writes.add(settled);
    void settled.then(() => this.#writes.delete(settled));
    return write;
  }

  /** Waits for the answers to all writes, then ends the talk. */
  async close(): Promise<void> {
    if (this.closed) return;
    while (this.#writes.size) await Promise.all(this.#writes);
    this.closed = true;
    this.#end();
    await this.#link.close();
  }
}
