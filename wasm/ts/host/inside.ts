/** The engine in this very thread: in Node, and in pages that have no workers. */
import { makeGlue } from "rejoin:glue";
import { browserAround } from "./around.js";
import { Tab, type Around } from "./leader.js";
import { MemoryPlace } from "./memory.js";
import { engineLoader, type MakeGlue, type WasmSource } from "./engine.js";
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
      load: engineLoader(glue, () => {
        const source = (wasm ?? wasmUrl()) as WasmSource;
        return typeof source === "string" || source instanceof URL ? readWasm(source) : source;
      }),
      webSocket: () => nodeWebSocket(import.meta.url),
    }),
  };
}

/** A page has no sync access handles, hence no store of its own that others could share: every page is alone, in memory. */
function alone(around: Around): Around {
  return { ...around, locks: undefined, serve: (start) => around.serve({ ...start, storage: "memory" }) };
}

function wasmUrl(): URL {
  return new URL("./rejoin.wasm", import.meta.url);
}
