/** The browser as a worker's surroundings, and which place the store gets there. */
import { MemoryPlace } from "./memory.js";
import { opfsPlace } from "./opfs.js";
import { platformWebSocket } from "./socket.js";
import { engineLoader, type MakeGlue, type WasmSource } from "./engine.js";
import type { LoadEngine } from "./contract.js";
import type { Around, Channel, Locks } from "./leader.js";

/** Makes the surroundings of a worker (or a page without workers) of the globals that are there. */
export function browserAround(makeGlue: MakeGlue, wasmUrl: () => URL): Around {
  let loader: LoadEngine | undefined;
  // One for all the times that this worker leads: a page that was asleep finds what it had.
  let memory: MemoryPlace | undefined;
  const load = (wasm: WasmSource | undefined): LoadEngine => (loader ??= engineLoader(makeGlue, wasm ?? wasmUrl));
  return {
    locks: globalThis.navigator?.locks as Locks | undefined,
    channel: (name) => new BroadcastChannel(name) as unknown as Channel,
    preload: ({ wasm }) => load(wasm).preload(),
    serve: async ({ name, storage, wasm }) => ({
      // Without locks two tabs could not tell who may open the file.
      place: (storage === "auto" && globalThis.navigator?.locks ? await opfsPlace(name) : null) ?? (memory ??= new MemoryPlace()),
      load: load(wasm),
      webSocket: platformWebSocket,
    }),
  };
}
