/** Says what the page weighs, as it is sent by a server that compresses. */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { DIST } from "./harness.mjs";

export function sizes() {
  const kilobytes = (bytes) => `${(bytes / 1000).toFixed(1)} kB`.padStart(10);
  for (const { name, parentPath } of readdirSync(DIST, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile() && /\.(js|css|html|wasm)$/.test(entry.name))) {
    const bytes = readFileSync(join(parentPath, name));
    const brotli = statSync(join(parentPath, `${name}.br`), { throwIfNoEntry: false })?.size ?? bytes.length;
    console.log(`size  ${kilobytes(bytes.length)} ${kilobytes(gzipSync(bytes).length)} gzip ${kilobytes(brotli)} brotli  ${name}`);
  }
}
