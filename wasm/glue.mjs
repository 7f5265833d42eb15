/** Turns the JavaScript that wasm-bindgen writes into a function that makes as many instances as are needed; see ts/host/engine.ts. */
import { build } from "esbuild";
import { dirname } from "node:path";

/** What takes the place of the globals inside the glue: `Timers` in ts/host/engine.ts. */
const TIMERS = "queueMicrotask, setTimeout, clearTimeout, setInterval, clearInterval";

/** Gives the source of a module that exports `makeGlue`, from the path of what `wasm-bindgen --target web` wrote. */
export async function glueSource(path) {
  const { outputFiles } = await build({
    // Nothing else of it is used.
    stdin: { contents: `export { default, Engine } from ${JSON.stringify(path)};`, resolveDir: dirname(path) },
    bundle: true,
    treeShaking: true,
    // It speaks to developers who call it wrongly; what the engine itself has to say goes through its host.
    drop: ["console"],
    write: false,
    format: "iife",
    globalName: "glue",
    target: "es2022",
    // The module is always handed in, so the address in the glue is never used; left as it is, bundlers would look for the file.
    // For the same reason nothing is ever fetched.
    define: { "import.meta.url": '"about:blank"', Response: "undefined", Request: "undefined", URL: "undefined" },
    minifySyntax: true,
  });
  // In JavaScript a function's parameters hide globals, and each call has its own variables: that is all there is to it.
  // Taken apart inside: esbuild may begin with "use strict", which a function with a pattern for a parameter must not.
  return `export function makeGlue(timers) {\nconst { ${TIMERS} } = timers;\n${outputFiles[0].text}\nreturn glue;\n}\n`;
}
