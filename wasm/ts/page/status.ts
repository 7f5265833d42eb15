/** Status: how the connection and the store stand. */
import { RejoinError } from "./errors.js";
import type { WireStatus } from "./link.js";
import { freeze } from "./values.js";

/**
 * How the connection and the store stand. It is immutable: another object each time something changes.
 *
 * @example
 * ```ts
 * const show = ({ state, progress, pending, storage }: Status): string =>
 *   storage === "memory" ? "not kept on this device"
 *   : state === "syncing" && progress ? `syncing ${progress.done} of ${progress.total}`
 *   : pending ? `${pending} not sent yet` : state;
 * repo.subscribe((status) => console.log(show(status)));
 * ```
 */
export interface Status {
  /** `none`: no relay was given. `offline`: not connected; `retryIn` and `reason` say more. */
  readonly state: "none" | "offline" | "connecting" | "syncing" | "synced";
  /** How much of what is to come has come, while syncing. */
  readonly progress?: { readonly done: number; readonly total: number; readonly bytesDone: number; readonly bytesTotal: number };
  /** Changes that no relay has acknowledged. */
  readonly pending: number;
  /** Where documents are kept. In `memory` they are gone with the tab whose `leader` is true. */
  readonly storage: "opfs" | "memory" | "file";
  /** Whether the browser promised not to evict the store. */
  readonly persisted?: boolean;
  /** Bytes used and bytes that may be used, as the browser estimates them. */
  readonly quota?: { readonly usage: number; readonly quota: number };
  /** There was a store once, and it is gone: the browser has removed it, or the tab that had it in memory was closed. */
  readonly evicted?: boolean;
  /** Why it is offline. */
  readonly reason?: string;
  /** Milliseconds until the next attempt, counted from when this was told. */
  readonly retryIn?: number;
  /** The protocol that is spoken with the relay. */
  readonly protocol?: string;
  /** Whether the engine of all tabs runs in this one. */
  readonly leader?: boolean;
  /** What keeps the store, the engine or the token from working. */
  readonly error?: RejoinError;
}

/** Reads what the engine tells. */
export function toStatus(told: WireStatus): Status {
  const { e: _, state, error, ...rest } = told as WireStatus & { e?: string };
  const known = state === "waiting" || state === "closed" ? "offline" : state;
  return freeze({ ...rest, state: known, ...(error && { error: new RejoinError(error.code, error.message) }) });
}
