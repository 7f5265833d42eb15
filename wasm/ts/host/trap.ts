/**
 * What to do after a trap.
 *
 * A trap ends an instance, and whatever made it trap is still in the store: the next engine would trap on it again. So the host remembers what
 * the engine was working on. The first trap on a document makes it suspect, and the next engine applies its changes one at a time and
 * reports each; a trap then names the change, which is quarantined. A change is never quarantined on the first trap, since it may have been
 * one of many that were applied together.
 */
import { QUARANTINE_ENTRIES_MAX, REQUEST_TRAPS_MAX, RESTARTS_MAX, RESTART_WINDOW_MS } from "./limits.js";
import type { ChangeName } from "./contract.js";

/** What the engine was doing when it trapped. */
export interface Working {
  doc: string | null;
  hash: string | null;
}

/** What was learned from the traps so far. */
export class Traps {
  #quarantined: ChangeName[];
  #suspect: [string, string | null] | undefined;
  #restarts: number[] = [];
  #requests = new Map<string, number>();

  constructor(quarantined: ChangeName[] = []) {
    this.#quarantined = quarantined.slice(-QUARANTINE_ENTRIES_MAX);
  }

  /** The changes that must not be applied again. */
  get quarantined(): ChangeName[] {
    return this.#quarantined;
  }

  /** The document to be careful with. */
  get suspect(): [string, string | null] | undefined {
    return this.#suspect;
  }

  /**
   * Learns from a trap; true if another change has to be quarantined (and the list kept) before the engine is started again.
   * `requests` names those that may have caused it, `careful` the document that the engine was already careful with.
   */
  trapped(working: Working, requests: Iterable<string>): boolean {
    const { doc, hash } = working;
    if (doc === null) return this.#blame(requests);
    if (this.#suspect?.[0] !== doc) {
      this.#suspect = [doc, hash];
      return false;
    }
    if (hash === null || this.#quarantined.some(([d, h]) => d === doc && h === hash)) return this.#blame(requests);
    this.#quarantined = [...this.#quarantined, [doc, hash] as ChangeName].slice(-QUARANTINE_ENTRIES_MAX);
    return true;
  }

  /** Whether this request was there too often when nothing else was to blame. */
  isToBlame(request: string): boolean {
    return (this.#requests.get(request) ?? 0) >= REQUEST_TRAPS_MAX;
  }

  /** Counts a restart; false if there were too many of them. */
  mayRestart(now: number): boolean {
    this.#restarts = this.#restarts.filter((at) => now - at < RESTART_WINDOW_MS);
    if (this.#restarts.length >= RESTARTS_MAX) return false;
    this.#restarts.push(now);
    return true;
  }

  #blame(requests: Iterable<string>): false {
    // Only those that are under way again can cause the next trap; the others are done, and need not be remembered.
    const counts = new Map<string, number>();
    for (const request of requests) counts.set(request, (this.#requests.get(request) ?? 0) + 1);
    for (const [request, count] of this.#requests) if (count >= REQUEST_TRAPS_MAX && counts.size < QUARANTINE_ENTRIES_MAX) counts.set(request, count);
    this.#requests = counts;
    return false;
  }
}
