import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import react from "@vitejs/plugin-react";
import { defineConfig, type Plugin } from "vite";

/** Writes the service worker when all other files are there: it has to name each of them, the worker and the WASM included. */
function serviceWorker(): Plugin {
  let out = "";
  return {
    name: "service-worker",
    apply: "build",
    configResolved: (config) => {
      out = join(config.root, config.build.outDir);
    },
    closeBundle() {
      const files = readdirSync(out, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => relative(out, join(entry.parentPath, entry.name)).replaceAll("\\", "/"))
        .filter((path) => path !== "sw.js" && !/\.(map|br|gz)$/.test(path))
        .sort();
      const hash = createHash("sha256");
      for (const path of files) hash.update(path).update(readFileSync(join(out, path)));
      const paths = files.map((path) => (path === "index.html" ? "/" : `/${path}`));
      const source = readFileSync(new URL("./src/sw.js", import.meta.url), "utf8");
      const filled = source.replace('"VERSION"', JSON.stringify(hash.digest("hex").slice(0, 16))).replace('["FILES"]', JSON.stringify(paths));
      writeFileSync(join(out, "sw.js"), filled);
      compress([...files, "sw.js"].map((path) => join(out, path)));
    },
  };
}

/** Lays a compressed form beside each file that gains by it: the relay serves these as they are, and compresses nothing itself. */
function compress(paths: readonly string[]): void {
  for (const path of paths) {
    const bytes = readFileSync(path);
    if (bytes.length < 1_000) continue;
    writeFileSync(`${path}.gz`, gzipSync(bytes, { level: 9 }));
    writeFileSync(`${path}.br`, brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 9, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length } }));
  }
}

export default defineConfig({
  plugins: [react(), serviceWorker()],
  // The package is a folder beside this one, which has a React of its own for its tests; two of them in one page do not work.
  resolve: { dedupe: ["react", "react-dom"] },
  // Browsers that have OPFS in workers know these; for older CSS every colour would be written twice.
  build: { target: "es2022", cssTarget: ["chrome123", "firefox121", "safari17.5"] },
});
