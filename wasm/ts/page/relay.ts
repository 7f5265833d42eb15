/** The relay, as the page sees it: where it is, and the token that it is shown. */
import { RejoinError } from "./errors.js";
import type { WireStatus } from "./link.js";
import type { Session } from "./session.js";

/**
 * A token for the relay, or how to get one: the function is called again in time before the last one ends, and when the relay says
 * that it is no longer good.
 */
export type Token = string | (() => string | Promise<string>);

/** Milliseconds before a token is asked for again after that failed: at first, and at most. */
const RETRY_FIRST = 1_000;
const RETRY_MOST = 60_000;

/** A token is renewed when this part of what it had left is over. */
const RENEW_AFTER = 0.8;
const RENEW_MOST = 86_400_000;

/** Connects the engine to the relay, and keeps it in tokens. */
export class Relay {
  readonly #session: Session;
  readonly #url: string;
  readonly #protocol: string | null;
  readonly #failed: () => void;
  #token: Token | undefined;
  /** What is under way to get a token and use it. */
  #work = Promise.resolve();
  #working = false;
  /** Whether the engine was told of the relay. */
  #isTold = false;
  /** Ends the wait for a token, or for the next try. */
  #supersede: () => void = () => {};
  #lacking = false;
  #replacing = false;
  /** How often tokens were refused since the relay took one. */
  #refusals = 0;
  #wanted: "connect" | "setToken" | "renewToken" | undefined;
  #renewing = false;
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

  /** Gives the relay another token, or another way to get one. What waits for the one before, or for its next try, goes on with it. */
  async setToken(token: Token): Promise<void> {
    this.#token = token;
    if (typeof token === "string" && this.#isTold && !this.#working) return void (await this.#session.call("setToken", token));
    this.#supersede();
    await this.#do(this.#isTold ? "setToken" : "connect");
    if (this.fault && this.#token === token) throw this.fault;
  }

  /** Gets a new token if that is what the connection lacks. */
  heard({ state, error, tokenEndsIn }: WireStatus): void {
    if (state === "syncing" || state === "synced") this.#refusals = 0;
    if (tokenEndsIn !== undefined && typeof this.#token === "function") void this.#renewIn(tokenEndsIn * RENEW_AFTER);
    const lacking = error?.code === "unauthorized";
    // The same may be told several times until the engine tries again.
    const isNew = lacking && !this.#lacking;
    this.#lacking = lacking;
    if (isNew && typeof this.#token === "function") void this.#replace();
  }

  /** Gets another token for one that was refused: at once, and after ever longer pauses where others were refused too. */
  async #replace(): Promise<void> {
    if (this.#replacing) return;
    this.#replacing = true;
    const most = Math.min(RETRY_FIRST * 2 ** (this.#refusals - 1), RETRY_MOST);
    if (this.#refusals++) await pause(most * (1 + Math.random()) / 2);
    this.#replacing = false;
    if (this.#lacking && !this.#session.closed && typeof this.#token === "function") await this.#do("setToken");
  }

  /** Renews the token after some time, without a break of the connection. */
  async #renewIn(milliseconds: number): Promise<void> {
    if (this.#renewing) return;
    this.#renewing = true;
    await pause(Math.min(Math.max(milliseconds, RETRY_FIRST), RENEW_MOST));
    if (!this.#session.closed && typeof this.#token === "function") await this.#do("renewToken");
    this.#renewing = false;
  }

  /** Gets a token and uses it; tries again where none could be got, for the page may be offline. */
  async #do(how: "connect" | "setToken" | "renewToken"): Promise<void> {
    // An engine that is told to connect learns the token too; one that is told the token does not connect. What only renews is done
    // by either.
    if (this.#wanted === undefined || how === "connect" || this.#wanted === "renewToken") this.#wanted = how;
    if (!this.#working) this.#work = this.#run();
    await this.#work;
  }

  async #run(): Promise<void> {
    this.#working = true;
    for (let delay = RETRY_FIRST; this.#wanted && !this.#session.closed; ) {
      const superseded = new Promise<typeof SUPERSEDED>((resolve) => {
        this.#supersede = () => resolve(SUPERSEDED);
      });
      try {
        const given = this.#token;
        const token = typeof given === "function" ? await Promise.race([given(), superseded]) : (given ?? null);
        if (token === SUPERSEDED) continue;
        const wanted = this.#wanted;
        this.#wanted = undefined;
        this.fault = undefined;
        await (wanted === "connect" ? this.#session.call("connect", this.#url, token, this.#protocol) : this.#session.call(wanted ?? "setToken", token));
        this.#isTold ||= wanted === "connect";
      } catch (cause) {
        if (this.#session.closed) break;
        this.fault = cause instanceof RejoinError ? cause : new RejoinError("refused", `failed to get a token: ${String(cause)}`, cause);
        this.#failed();
        // What the engine refuses it would refuse again; whoever makes tokens may only be out of reach.
        if (!this.#wanted) break;
        const isAnother = (await Promise.race([pause(delay), superseded])) === SUPERSEDED;
        delay = isAnother ? RETRY_FIRST : Math.min(delay * 2, RETRY_MOST);
      }
    }
    this.#working = false;
  }
}

const SUPERSEDED = Symbol();

/** Waits, without keeping a process of Node alive for it. */
function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => {
    const timer: { unref?: () => void } | number = setTimeout(resolve, milliseconds);
    if (typeof timer === "object") timer.unref?.();
  });
}
