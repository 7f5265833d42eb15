/** The engine as it was built (`node build.mjs`), compiled once. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

export const wasm = new WebAssembly.Module(readFileSync(fileURLToPath(new URL("../../pkg/rejoin_bg.wasm", import.meta.url))));
