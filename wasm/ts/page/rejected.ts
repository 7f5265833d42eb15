/** Rejected writes: what a relay refused for good, to be retried, dropped or saved. */
import { Live } from "./live.js";
import type { Session } from "./session.js";
import { freeze } from "./values.js";

/** What the engine tells of a rejected write. */
export interface WireRejected {
  doc: string;
  change: string;
  code: string;
  text: string;
  time?: number;
  blocked?: number;
}

/** Work that was taken out of a document and is kept beside it. */
interface WireBranch {
  doc: string;
  number: number;
  change: string;
  code: string;
  text: string;
  time?: number;
  changes?: number;
}

/**
 * The writes that a relay refused for good, as a live list. Such a write is in the document on this device and nowhere else; what was written
 * on top of it waits.
 *
 * @example
 * ```ts
 * for (const write of await repo.rejected.load()) {
 *   console.log(write.doc, write.text);
 *   const branch = await write.drop();
 *   console.log((await branch.export()).length);
 * }
 * ```
 */
export class Rejected extends Live<readonly RejectedWrite[]> {
  readonly #session: Session;

  /** @internal */
  constructor(session: Session) {
    super(async () => freeze((await session.call<WireRejected[]>("rejected")).map((told) => new RejectedWrite(session, told, () => this.refresh()))));
    this.#session = session;
  }

  /**
   * Lists what was dropped from a document and is kept beside it.
   *
   * @example
   * ```ts
   * for (const branch of await repo.rejected.dropped(doc.id)) await branch.forget();
   * ```
   */
  async dropped(doc: string): Promise<Branch[]> {
    const branches = await this.#session.call<WireBranch[]>("branches", doc);
    return branches.map((branch) => new Branch(this.#session, branch));
  }
}

/**
 * A write that a relay refused for good.
 *
 * @example
 * ```ts
 * for (const { doc, code, text, blocked } of await repo.rejected.load()) console.warn(doc, code, text, blocked);
 * ```
 */
export class RejectedWrite {
  /** The id of the document. */
  readonly doc: string;
  /** The hash of the change. */
  readonly change: string;
  /** Why, for programs. */
  readonly code: string;
  /** Why, in the relay's words. */
  readonly text: string;
  /** When it was refused. */
  readonly time: Date | null;
  /** How many later writes stand on it and are held back with it. */
  readonly blocked: number;
  readonly #session: Session;
  readonly #changed: () => void;

  /** @internal */
  constructor(session: Session, told: WireRejected, changed: () => void) {
    this.#session = session;
    this.#changed = changed;
    ({ doc: this.doc, change: this.change, code: this.code, text: this.text, blocked: this.blocked = 0 } = told);
    this.time = told.time === undefined ? null : new Date(told.time);
  }

  /**
   * Sends it again: after a grant was given, or a limit raised.
   *
   * @example
   * ```ts
   * const [write] = await repo.rejected.load();
   * await write?.retry();
   * ```
   */
  async retry(): Promise<void> {
    await this.#session.track(this.#session.call("retry", this.doc, this.change));
    this.#changed();
  }

  /**
   * Takes it and what stands on it out of the document; it is kept beside it, as a branch, until that is forgotten.
   *
   * @example
   * ```ts
   * const [write] = await repo.rejected.load();
   * const branch = await write?.drop();
   * console.log(branch?.changes);
   * ```
   */
  async drop(): Promise<Branch> {
    const branch = await this.#session.track(this.#session.call<WireBranch>("dropRejected", this.doc, this.change));
    this.#changed();
    return new Branch(this.#session, branch);
  }
}

/**
 * Work that was taken out of a document and is kept beside it on this device.
 *
 * @example
 * ```ts
 * for (const branch of await repo.rejected.dropped(doc.id)) console.log(branch.text, branch.changes);
 * ```
 */
export class Branch {
  /** The id of the document. */
  readonly doc: string;
  /** Which one of that document. */
  readonly number: number;
  /** How many changes were taken out. */
  readonly changes: number;
  /** Why the relay refused it, for programs. */
  readonly code: string;
  /** Why, in the relay's words. */
  readonly text: string;
  readonly #session: Session;

  /** @internal */
  constructor(session: Session, told: WireBranch) {
    this.#session = session;
    ({ doc: this.doc, number: this.number, changes: this.changes = 0, code: this.code, text: this.text } = told);
  }

  /**
   * Writes the document with this work in Automerge's format.
   *
   * @example
   * ```ts
   * const [branch] = await repo.rejected.dropped(doc.id);
   * if (branch) console.log((await branch.export()).length);
   * ```
   */
  export(): Promise<Uint8Array> {
    return this.#session.call("exportBranch", this.doc, this.number);
  }

  /**
   * Deletes it for good.
   *
   * @example
   * ```ts
   * for (const branch of await repo.rejected.dropped(doc.id)) await branch.forget();
   * ```
   */
  async forget(): Promise<void> {
    await this.#session.call("forgetBranch", this.doc, this.number);
  }
}
