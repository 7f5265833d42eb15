/** What page, worker and leader say to each other. All of it is data that can be cloned, and bulky parts travel as JSON text. */
import { type ErrorCode, toCode } from "../page/errors.js";
import type { WireStatus } from "../page/link.js";

/** The version of these messages. Tabs that run different versions cannot share an engine. */
export const MESSAGES_VERSION = 1;

/** A request: `args` is a JSON array. */
export type Request = [id: number, method: string, args: string, bytes: Uint8Array | undefined];

/** Why something failed, as it travels. */
export interface Failure {
  code: ErrorCode;
  message: string;
  details?: unknown;
}

/** What an engine tells a page, in order: an event (JSON text), or the answer to a request. */
export type Entry = string | [id: number, result: string | Uint8Array] | [id: number, result: null, failure: Failure];

/** What the host knows beside the engine; the page adds it to the status. */
export interface Info {
  storage: WireStatus["storage"];
  quota?: { usage: number; quota: number };
  /** There was no store: it was made just now. */
  fresh?: boolean;
  /** There was a store once, and the browser has removed it. */
  evicted?: boolean;
}

/** How a page starts its worker. */
export interface Start {
  t: "start";
  name: string;
  session: string;
  storage: "auto" | "memory";
  directory?: string | undefined;
  wasm?: string | ArrayBuffer | Uint8Array | WebAssembly.Module | undefined;
}

/** Requests that do nothing but wait, and are done anew by whichever engine hears of them. */
export const WAITING: ReadonlySet<string> = new Set(["wait", "reached", "synced", "signOut"]);

/** From the page to its worker. `tag` names the attachment that the page believes in; what carries another one is not for this engine. */
export type ToWorker =
  | Start
  | { t: "requests"; tag: string; acked: number; list: Request[] }
  /** The page is about to be frozen: hand over, and take no part until `resume`. */
  | { t: "pause" }
  /** The page no longer takes the end of the session's lock for the end of the worker: it may step back. */
  | { t: "stepBack" }
  | { t: "resume" }
  | { t: "online"; is: boolean }
  | { t: "evicted" }
  | { t: "close" };

/** From an engine to one page. */
export type ToSession =
  | { t: "engine"; tag: string; info: Info }
  | { t: "batch"; tag: string; list: Entry[] }
  | { t: "info"; info: Info }
  | { t: "failed"; failure: Failure };

/** From a worker to its page. */
export type ToPage =
  | ToSession
  /** The worker holds the lock of its session: when that lock is free again, the worker is gone. */
  | { t: "ready" }
  /** The worker is about to free that lock and to come back later. It waits for the page's `stepBack`. */
  | { t: "stepsBack" }
  /** Whether this worker runs the engine. */
  | { t: "leads"; is: boolean }
  | { t: "closed" };

/** From a worker to the one that leads. */
export type ToLeader =
  | { t: "hello"; v: number; session: string }
  | { t: "requests"; session: string; tag: string; acked: number; list: Request[] }
  | { t: "evicted" }
  | { t: "bye"; session: string };

/** Makes a {@link Failure} of whatever was thrown. */
export function failure(error: unknown, code: ErrorCode = "internal"): Failure {
  if (typeof error === "object" && error !== null) {
    const { code: own, message, details } = error as { code?: unknown; message?: unknown; details?: unknown };
    const made: Failure = { code: toCode(own, code), message: String(message ?? own ?? error) };
    if (details !== undefined) made.details = details;
    return made;
  }
  return { code, message: String(error) };
}
