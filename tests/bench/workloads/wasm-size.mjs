// What a browser downloads before an application's first line runs: JavaScript, bundled and minified, and WASM, compressed with Brotli.

import { readFileSync } from "node:fs"
import { createRequire } from "node:module"
import { dirname } from "node:path"
import { fileURLToPath } from "node:url"
import { brotliCompressSync, constants } from "node:zlib"
import { build } from "esbuild"

const folder = dirname(fileURLToPath(new URL(".", import.meta.url)))

export default {
  title: "Download: what a browser needs",
  story: () => "Documents, a store in the browser and sync over WebSockets: bundled and minified by esbuild, compressed by Brotli at its best.",
  scale: { full: { quality: 11 }, quick: { quality: 5 } },
  metrics: [
    { key: "all", title: "all", unit: "kB" },
    { key: "wasm", title: "of it WASM", unit: "kB" },
  ],
  inBrowser: true,
  rounds: 1,
  async run({ peer, scale, measure }) {
    const { entry, files, alias } = peer.browser
    const sizes = { all: 0, wasm: 0 }
    const add = (bytes, isWasm) => {
      const size = brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: scale.quality } }).length / 1000
      sizes.all += size
      if (isWasm) sizes.wasm += size
    }
    const took = await measure(async () => {
      const { outputFiles } = await build({
        stdin: { contents: entry, resolveDir: folder },
        alias,
        bundle: true,
        minify: true,
        write: false,
        format: "esm",
        platform: "browser",
        outdir: "out",
        splitting: false,
        loader: { ".wasm": "empty" },
        define: { global: "globalThis", "process.env.NODE_ENV": '"production"' },
        external: ["node:*", "ws"],
        logLevel: "silent",
      })
      for (const { contents } of outputFiles) add(contents)
      for (const file of files) add(readFileSync(found(file)), file.endsWith(".wasm"))
    })
    return { ...sizes, cpu: took.cpu }
  },
}

const require = createRequire(import.meta.url)

function found(file) {
  return file.startsWith("/") ? file : require.resolve(file)
}
