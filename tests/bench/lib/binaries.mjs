// Where the programs of this repository are that the benchmarks run: REJOIN_RELAY, REJOIN_SAMOD_SERVER and REJOIN_PACKAGE say so, or they are
// where `cargo build --release` and `make package` put them. A smoke test (`--quick`) takes the debug build, which is what the tests have.

import { existsSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { join } from "node:path"

const root = fileURLToPath(new URL("../../..", import.meta.url))

/** The npm package's entry, as a URL to import. */
export const packageEntry = new URL("dist/index.js", pathUrl(process.env.REJOIN_PACKAGE ?? join(root, "wasm"))).href

/** The folder with the npm package's built files. */
export const packageDist = fileURLToPath(new URL(".", packageEntry))

/** The path of one of our binaries; throws what to do if it is not there. */
export function binary(name, variable) {
  if (process.env[variable]) return process.env[variable]
  const target = process.env.CARGO_TARGET_DIR ?? join(root, "target")
  const profiles = process.env.BENCH_QUICK ? ["debug", "release"] : ["release"]
  const found = profiles.map(profile => join(target, profile, name)).find(path => existsSync(path))
  if (!found) throw new Error(`there is no ${profiles[0]} build of ${name}`)
  return found
}

function pathUrl(path) {
  return new URL(`file://${path.endsWith("/") ? path : `${path}/`}`)
}
