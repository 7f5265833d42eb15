/**
 * Prints what the package's JavaScript weighs, minified and gzipped, and fails above the budget in `js-budget.json`.
 *
 * An entry counts with everything it may load later, except what another entry of the table counts.
 */
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const root = fileURLToPath(new URL("../", import.meta.url));
const budgets = JSON.parse(readFileSync(`${root}js-budget.json`, "utf8"));
let over = false;

for (const [entry, { gzip: most, external = [] }] of Object.entries(budgets)) {
  if (!existsSync(root + entry)) continue;
  const { outputFiles } = await build({
    entryPoints: [root + entry],
    bundle: true,
    splitting: true,
    minify: true,
    format: "esm",
    target: "es2022",
    outdir: "out",
    write: false,
    define: { "process.env.NODE_ENV": '"production"' },
    external: ["node:*", "rejoin:*", "*.wasm", ...external],
  });
  const sizes = outputFiles.map(({ path, contents }) => ({ path: path.split("/").pop(), minified: contents.length, gzip: gzipSync(contents, { level: 9 }).length }));
  const total = sizes.reduce((sum, { gzip }) => sum + gzip, 0);
  for (const { path, minified, gzip } of sizes) console.log(`  ${path}: ${minified} bytes, ${gzip} gzipped`);
  console.log(`${entry}: ${total} bytes gzipped of ${most}`);
  over ||= total > most;
}
if (over) {
  console.error("above the budget");
  process.exitCode = 1;
}
