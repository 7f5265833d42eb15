/** What the build makes of wasm-bindgen's JavaScript (see `bundle.mjs`). */
declare module "rejoin:glue" {
  export const makeGlue: import("./engine.js").MakeGlue;
}

/** What the build puts into the entry `rejoin/inline`. */
declare module "rejoin:inline" {
  /** The WASM in base64. */
  export const wasm: string;
  /** The worker's whole code. */
  export const worker: string;
}
