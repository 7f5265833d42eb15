/** A process that writes as fast as it can, and prints each total once it is acknowledged. Killed by the test that starts it. */
import { build } from "esbuild";
import { writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const { outputFiles } = await build({
  stdin: {
    contents: `export { Server } from ${JSON.stringify(here("../../ts/host/server.ts"))};
export { NodePlace } from ${JSON.stringify(here("../../ts/host/node.ts"))};
export { engineLoader } from ${JSON.stringify(here("../../ts/host/engine.ts"))};
export { makeGlue } from ${JSON.stringify(here("./fake-engine.ts"))};`,
    resolveDir: here("."),
    loader: "ts",
  },
  bundle: true,
  write: false,
  format: "esm",
  platform: "node",
});
const code = join(tmpdir(), `rejoin-writer-${process.pid}.mjs`);
writeFileSync(code, outputFiles[0].text);
const { Server, NodePlace, engineLoader, makeGlue } = await import(pathToFileURL(code).href);

const place = new NodePlace(process.argv.at(-1), "app");
const wasm = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0]);
const server = new Server({ place, load: engineLoader(makeGlue, wasm), webSocket: () => null, failed: (why) => console.error(why) || process.exit(1) });
await server.start();

const session = String(process.pid);
let id = 0;
let tag = "";
const next = () => server.requests(session, tag, id, [[++id, "add", JSON.stringify(["d", 1]), undefined]]);
server.attach(session, (message) => {
  if (message.t === "engine") tag = message.tag;
  if (message.t !== "batch") return;
  for (const entry of message.list) {
    if (typeof entry === "string") continue;
    console.log(JSON.parse(entry[1]).total);
    next();
  }
});
next();
