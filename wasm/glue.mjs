/** Turns the JavaScript that wasm-bindgen writes into a function that makes as many instances as are needed; see ts/host/engine.ts. */
import { build } from "esbuild";

/** What takes the place of the globals inside the glue: `Timers` in ts/host/engine.ts. */
const TIMERS = "queueMicrotask, setTimeout, clearTimeout, setInterval, clearInterval";

/** Gives the source of a module that exports `makeGlue`, from the path of what `wasm-bindgen --target web` wrote. */
export async function glueSource(path) {
  const { outputFiles } = await build({
    entryPoints: [path],
    bundle: true,
    write: false,
    format: "iife",
    globalName: "glue",
    target: "es2022",
    // The module is always handed in, so the address in the glue is never used; left as it is, bundlers would look for the file.
    define: { "import.meta.url": '"about:blank"' },
  });
  // In JavaScript a function's parameters hide globals, and each call has its own variables: that is all there is to it.
  // Taken apart inside: esbuild may begin with "use strict", which a function with a pattern for a parameter must not.
  return `export function makeGlue(timers) {\nconst { ${TIMERS} } = timers;\n${outputFiles[0].text}\nreturn glue;\n}\n`;
}
