/** The engine in this very thread: in Node, and in pages that have no workers. */
import { makeGlue } from "rejoin:glue";
import { browserAround } from "./around.js";
import type { LoadEngine } from "./contract.js";
import { Tab, type Around } from "./leader.js";
import { MemoryPlace } from "./memory.js";
import { engineLoader, type MakeGlue } from "./engine.js";
import { isNode, NodePlace, nodeWebSocket, readWasm } from "./node.js";
import type { Start, ToPage, ToWorker } from "./messages.js";

/** Starts the engine here. Messages go both ways as if a worker were in between: never within the call that causes them. */
export function startInside(start: Start, post: (message: ToPage) => void): (message: ToWorker) => void {
  return startWith(start, post, isNode() ? nodeAround(makeGlue) : alone(browserAround(makeGlue, wasmUrl)));
}

/** As {@link startInside}, in surroundings of the caller's choice. */
export function startWith(start: Start, post: (message: ToPage) => void, around: Around): (message: ToWorker) => void {
  const tab = new Tab(start, (message) => queueMicrotask(() => post(message)), around);
  return (message) => queueMicrotask(() => tab.handle(message));
}

/** Node as surroundings: no other tabs, and a store in a file. */
export function nodeAround(glue: MakeGlue): Around {
  return {
    channel: () => ({ onmessage: null, postMessage: () => {}, close: () => {} }),
    serve: async ({ name, storage, directory, wasm }) => ({
      place: storage === "memory" ? new MemoryPlace() : new NodePlace(directory ?? globalThis.process.cwd(), name),
      load: wasm === undefined ? ownEngine(glue) : engineLoader(glue, () => (typeof wasm === "string" ? readWasm(wasm) : wasm)),
      webSocket: () => nodeWebSocket(import.meta.url),
    }),
  };
}

/** Loaders of the package's own WASM, by their glue: compiled once for all repos of a process, which then share what is optimised while it runs. */
const own = new WeakMap<MakeGlue, LoadEngine>();

function ownEngine(glue: MakeGlue): LoadEngine {
  let load = own.get(glue);
  if (!load) own.set(glue, (load = engineLoader(glue, () => readWasm(wasmUrl()))));
  return load;
}

/** A page has no sync access handles, hence no store of its own that others could share: every page is alone, in memory. */
function alone(around: Around): Around {
  return { ...around, locks: undefined, serve: (start) => around.serve({ ...start, storage: "memory" }) };
}

function wasmUrl(): URL {
  return new URL("./rejoin.wasm", import.meta.url);
}
