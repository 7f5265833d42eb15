/** The WASM and the worker out of the JavaScript itself. */
import { wasm, worker } from "rejoin:inline";

/**
 * Gives the options that open a repo without fetching anything.
 *
 * @example
 * ```ts
 * import { inline, Repo } from "rejoin/inline";
 *
 * const repo = await Repo.open({ name: "my-app", storage: "memory", ...inline() });
 * ```
 */
export function inline(): { wasm: Uint8Array; worker: () => Worker } {
  return {
    wasm: Uint8Array.from(atob(wasm), (character) => character.charCodeAt(0)),
    worker: () => {
      const address = URL.createObjectURL(new Blob([worker], { type: "text/javascript" }));
      const made = new Worker(address, { type: "module" });
      // The worker has read its script by the time it says something.
      made.addEventListener("message", () => URL.revokeObjectURL(address), { once: true });
      return made;
    },
  };
}
