/**
 * Makes `dist/`: the entries of the package, its worker, the WASM, and the types.
 *
 *   node bundle.mjs                        from pkg/ (what `wasm-bindgen --target web --out-name rejoin` writes)
 *   node bundle.mjs --e2e --out=e2e/dist   only the page of the end-to-end tests; with --fake, on the tests' engine of counters
 *
 * The worker is one file and all other files share chunks, every one of them in the root of `dist/`: `new URL("./worker.js", import.meta.url)` has
 * to be right from whichever chunk it ends up in.
 */
import { build } from "esbuild";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { gzipSync } from "node:zlib";
import { glueSource } from "./glue.mjs";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const { values: args } = parseArgs({
  options: {
    fake: { type: "boolean" },
    pkg: { type: "string", default: here("pkg") },
    out: { type: "string", default: here("dist") },
    e2e: { type: "boolean" },
    "no-types": { type: "boolean" },
  },
});

const EMPTY_WASM = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0]);

const wasm = args.fake ? EMPTY_WASM : readFileSync(`${args.pkg}/rejoin_bg.wasm`);
const glue = args.fake ? `export { makeGlue } from ${JSON.stringify(here("test/host/fake-engine.ts"))};` : await glueSource(`${args.pkg}/rejoin.js`);
let workerText = "";

const virtual = {
  name: "rejoin",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^rejoin:/ }, ({ path }) => ({ path, namespace: "rejoin" }));
    onLoad({ filter: /^rejoin:glue$/, namespace: "rejoin" }, () => ({ contents: glue, resolveDir: here(".") }));
    onLoad({ filter: /^rejoin:inline$/, namespace: "rejoin" }, () => ({
      contents: `export const wasm = ${JSON.stringify(Buffer.from(wasm).toString("base64"))};\nexport const worker = ${JSON.stringify(workerText)};`,
    }));
  },
};

const common = {
  bundle: true,
  format: "esm",
  target: "es2022",
  minify: true,
  sourcemap: true,
  legalComments: "none",
  plugins: [virtual],
  external: ["react", "react-dom", "ws"],
  tsconfig: here("tsconfig.json"),
  outdir: args.out,
};

rmSync(args.out, { recursive: true, force: true });
mkdirSync(args.out, { recursive: true });
writeFileSync(`${args.out}/rejoin.wasm`, wasm);
await build({ ...common, entryPoints: { worker: here("ts/host/worker.ts") } });
workerText = readFileSync(`${args.out}/worker.js`, "utf8").replace(/\n\/\/# sourceMappingURL=.*\s*$/, "\n");

const entries = args.e2e
  ? { page: "e2e/page.ts" }
  : { index: "ts/index.ts", "react/index": "ts/react/index.ts", testing: "ts/testing.ts", inline: "ts/inline.ts" };
const entryPoints = Object.fromEntries(Object.entries(entries).flatMap(([name, path]) => (existsSync(here(path)) ? [[name, here(path)]] : [])));
const { metafile } = await build({ ...common, entryPoints, splitting: true, chunkNames: "[name]-[hash]", metafile: true });

if (!args["no-types"] && !args.e2e) {
  execFileSync("npx", ["tsc", "-p", "tsconfig.build.json", "--outDir", args.out], { cwd: here("."), stdio: "inherit" });
}

const gzip = (path) => gzipSync(readFileSync(path), { level: 9 }).length;
const kilobytes = (bytes) => `${(bytes / 1000).toFixed(1)} kB`;
console.log(`worker.js ${kilobytes(gzip(`${args.out}/worker.js`))} gzip`);
for (const [path, { entryPoint, inputs }] of Object.entries(metafile.outputs)) {
  if (path.endsWith(".js")) console.log(`${path.split("/").at(-1)} ${kilobytes(gzip(path))} gzip${entryPoint ? "" : ` (${Object.keys(inputs).length} modules)`}`);
}
