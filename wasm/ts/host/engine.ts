/**
 * Loads the engine's WASM, as often as it is needed.
 *
 * The JavaScript that wasm-bindgen writes keeps its instance in module variables, and a trap leaves that instance in any state. So the build wraps
 * it into a function (`rejoin:glue`) that gives fresh variables at each call, and takes the timers it uses as arguments: what an
 * instance does on its own then runs inside `guarded` below, a trap there is noticed, and a dead instance is silent.
 */
import type { Engine, Host, Instance, LoadEngine, OpenOptions } from "./contract.js";

/** The globals that the glue gets in place of the real ones. */
export interface Timers {
  queueMicrotask(task: () => void): void;
  setTimeout(task: () => void, ms?: number): unknown;
  clearTimeout(timer: unknown): void;
  setInterval(task: () => void, ms?: number): unknown;
  clearInterval(timer: unknown): void;
}

/** What wasm-bindgen's JavaScript exports. */
export interface Glue {
  default(wasm: { module_or_path: WebAssembly.Module }): Promise<unknown>;
  Engine: { open(options: OpenOptions, host: Host): Promise<Engine> };
}

/** Makes the glue of one instance. */
export type MakeGlue = (timers: Timers) => Glue;

/** Where the WASM is: an address, its bytes, or the compiled module. */
export type WasmSource = string | URL | ArrayBuffer | Uint8Array | WebAssembly.Module;

/** Loads the module once, and makes an instance at each call. */
export function engineLoader(makeGlue: MakeGlue, wasm: WasmSource | (() => WasmSource)): LoadEngine {
  let compiled: Promise<WebAssembly.Module> | undefined;
  const preload = (): Promise<WebAssembly.Module> =>
    (compiled ??= attempt(() => compile(typeof wasm === "function" ? wasm() : wasm)).catch((error: unknown) => {
      // The next attempt may find the network again.
      compiled = undefined;
      throw { code: "unsupported", message: `failed to load the engine: ${String((error as Error)?.message ?? error)}` };
    }));
  const load = async (trap: (error: unknown) => void): Promise<Instance> => {
    const module = await preload();
    const timers = guarded(trap);
    const glue = makeGlue(timers);
    await glue.default({ module_or_path: module }).catch((error: unknown) => {
      throw { code: "unsupported", message: `failed to start the engine: ${String(error)}` };
    });
    return { open: (options, host) => glue.Engine.open(options, host), kill: () => timers.kill() };
  };
  return Object.assign(load, { preload });
}

/** Runs a task so that what it throws is a rejection. */
async function attempt<T>(task: () => Promise<T>): Promise<T> {
  return task();
}

/** Compiles the module, streaming where the server's content type and the platform allow it. */
export async function compile(wasm: WasmSource): Promise<WebAssembly.Module> {
  if (wasm instanceof WebAssembly.Module) return wasm;
  if (typeof wasm !== "string" && !(wasm instanceof URL)) return WebAssembly.compile(wasm as Uint8Array<ArrayBuffer>);
  const response = await fetch(wasm);
  if (!response.ok) throw new Error(`${response.status} at ${String(wasm)}`);
  if (typeof WebAssembly.compileStreaming === "function" && response.headers.get("content-type")?.startsWith("application/wasm")) {
    return WebAssembly.compileStreaming(response);
  }
  return WebAssembly.compile(await response.arrayBuffer());
}

/** Timers whose tasks report what they throw, and which stop for good at `kill`. */
export function guarded(trap: (error: unknown) => void): Timers & { kill(): void } {
  let isDead = false;
  const guard = (task: () => void) => () => {
    if (isDead) return;
    try {
      task();
    } catch (error) {
      trap(error);
    }
  };
  return {
    queueMicrotask: (task) => queueMicrotask(guard(task)),
    setTimeout: (task, ms) => setTimeout(guard(task), ms),
    clearTimeout: (timer) => clearTimeout(timer as number),
    setInterval: (task, ms) => setInterval(guard(task), ms),
    clearInterval: (timer) => clearInterval(timer as number),
    kill: () => {
      isDead = true;
    },
  };
}
