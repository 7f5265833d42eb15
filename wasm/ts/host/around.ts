/** The browser as a worker's surroundings, and which place the store gets there. */
import { MemoryPlace } from "./memory.js";
import { opfsPlace } from "./opfs.js";
import { platformWebSocket } from "./socket.js";
import { engineLoader, type MakeGlue, type WasmSource } from "./engine.js";
import type { Around, Channel, Locks } from "./leader.js";

/** Makes the surroundings of a worker (or a page without workers) of the globals that are there. */
export function browserAround(makeGlue: MakeGlue, wasmUrl: () => URL): Around {
  return {
    locks: globalThis.navigator?.locks as Locks | undefined,
    channel: (name) => new BroadcastChannel(name) as unknown as Channel,
    serve: async ({ name, storage, wasm }) => ({
      // Without locks two tabs could not tell who may open the file.
      place: (storage === "auto" && globalThis.navigator?.locks ? await opfsPlace(name) : null) ?? new MemoryPlace(),
      load: engineLoader(makeGlue, wasm ? (wasm as WasmSource) : wasmUrl),
      webSocket: platformWebSocket,
    }),
  };
}
