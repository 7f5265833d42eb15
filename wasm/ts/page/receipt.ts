/** Receipts: what is known of a write. */
import type { Session } from "./session.js";
import type { Stage } from "./types.js";

/** The longest wait the engine takes, in milliseconds: 24 days. */
export const FOREVER = 2 ** 31 - 1;

const ORDER: readonly Stage[] = ["local", "relayed", "seen"];

/**
 * What is known of a write. To hold one means that the write survives power loss on this device.
 *
 * @example
 * ```ts
 * const receipt = await doc.set("title", "Tea");
 * console.assert(receipt.stage === "local");
 * await receipt.wait("relayed", 10_000);
 * console.assert(receipt.stage === "relayed");
 * ```
 */
export class Receipt {
  /** The id of the document that was written. */
  readonly doc: string;
  /** The hash of the change; null if there was nothing to write. */
  readonly change: string | null;
  readonly #session: Session;
  #stage: Stage = "local";

  /** @internal */
  constructor(session: Session, doc: string, change: string | null) {
    this.#session = session;
    this.doc = doc;
    this.change = change;
  }

  /** The last stage this receipt has heard of; {@link Receipt.check} asks again. */
  get stage(): Stage {
    return this.#stage;
  }

  /**
   * Asks which stage the write has reached. Rejects with `rejected` if the relay refused it for good.
   *
   * @example
   * ```ts
   * const receipt = await doc.set("title", "Tea");
   * console.log(await receipt.check());
   * ```
   */
  async check(): Promise<Stage> {
    if (this.change !== null) this.#reached((await this.#session.call<Stage | null>("receipt", this.doc, this.change)) ?? "local");
    return this.#stage;
  }

  /**
   * Waits until the write has reached a stage, by default without limit. Rejects with `timeout`, or with `rejected` if the relay refused it.
   *
   * @example
   * ```ts
   * const receipt = await doc.set("title", "Tea");
   * await receipt.wait("relayed", 10_000);
   * ```
   */
  async wait(stage: Stage, milliseconds = FOREVER): Promise<void> {
    if (this.change === null || ORDER.indexOf(stage) <= ORDER.indexOf(this.#stage)) return;
    await this.#session.call("reached", this.doc, this.change, stage, Math.min(milliseconds, FOREVER));
    this.#reached(stage);
  }

  #reached(stage: Stage): void {
    if (ORDER.indexOf(stage) > ORDER.indexOf(this.#stage)) this.#stage = stage;
  }
}
