/** The relay, as the page sees it: where it is, and the token that it is shown. */
import { RejoinError } from "./errors.js";
import type { WireStatus } from "./link.js";
import type { Session } from "./session.js";

/** A token for the relay, or how to get one: the function is called again when the relay says that the last one is no longer good. */
export type Token = string | (() => string | Promise<string>);

/** Milliseconds before a token is asked for again after that failed: at first, and at most. */
const RETRY_FIRST = 1_000;
const RETRY_MOST = 60_000;

/** Connects the engine to the relay, and keeps it in tokens. */
export class Relay {
  readonly #session: Session;
  readonly #url: string;
  readonly #protocol: string | null;
  readonly #failed: () => void;
  #token: Token | undefined;
  #working = false;
  #lacking = false;
  #wanted: "connect" | "setToken" | undefined;
  /** Why there is no token, or why the engine does not take it. */
  fault: RejoinError | undefined;

  constructor(session: Session, options: { url: string; protocol: string | undefined; token: Token | undefined }, failed: () => void) {
    this.#session = session;
    this.#url = options.url;
    this.#protocol = options.protocol ?? null;
    this.#token = options.token;
    this.#failed = failed;
  }

  /** Lets the engine connect. */
  connect(): Promise<void> {
    return this.#do("connect");
  }

  /** Gives the relay another token, or another way to get one. */
  async setToken(token: Token): Promise<void> {
    this.#token = token;
    if (typeof token === "string") await this.#session.call("setToken", token);
    else await this.#do("setToken");
  }

  /** Gets a new token if that is what the connection lacks. */
  heard({ error }: WireStatus): void {
    const lacking = error?.code === "unauthorized";
    // The same may be told several times until the engine tries again.
    if (lacking && !this.#lacking && typeof this.#token === "function") void this.#do("setToken");
    this.#lacking = lacking;
  }

  /** Gets a token and uses it; tries again where none could be got, for the page may be offline. */
  async #do(how: "connect" | "setToken"): Promise<void> {
    // An engine that is told to connect learns the token too; one that is told the token does not connect.
    if (this.#wanted !== "connect") this.#wanted = how;
    if (this.#working) return;
    this.#working = true;
    for (let delay = RETRY_FIRST; this.#wanted && !this.#session.closed; ) {
      try {
        const token = (typeof this.#token === "function" ? await this.#token() : this.#token) ?? null;
        const wanted = this.#wanted;
        this.#wanted = undefined;
        this.fault = undefined;
        await (wanted === "connect" ? this.#session.call("connect", this.#url, token, this.#protocol) : this.#session.call("setToken", token));
      } catch (cause) {
        if (this.#session.closed) break;
        this.fault = cause instanceof RejoinError ? cause : new RejoinError("refused", `failed to get a token: ${String(cause)}`, cause);
        this.#failed();
        // What the engine refuses it would refuse again; whoever makes tokens may only be out of reach.
        if (!this.#wanted) break;
        await pause(delay);
        delay = Math.min(delay * 2, RETRY_MOST);
      }
    }
    this.#working = false;
  }
}

/** Waits, without keeping a process of Node alive for it. */
function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => {
    const timer: { unref?: () => void } | number = setTimeout(resolve, milliseconds);
    if (typeof timer === "object") timer.unref?.();
  });
}
