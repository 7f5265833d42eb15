/**
 * Builds the engine's WASM into `pkg/`, and says what it weighs.
 *
 *   node build.mjs             builds, and fails if it weighs more than size-budget.json allows
 *   node build.mjs --set       builds, and takes the weight as the new budget
 *   node build.mjs --names     keeps the names of functions, to see what weighs what; no budget
 *
 * Needs Rust with the target wasm32-unknown-unknown, and `npm install` here for wasm-opt. wasm-bindgen is taken from the path or installed.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import { namedBySimilarity } from "./scripts/order.mjs";

const here = fileURLToPath(new URL(".", import.meta.url));
const root = join(here, "..");
const target = process.env.CARGO_TARGET_DIR ?? join(root, "target");
const out = join(here, "pkg");
const budgetFile = join(here, "size-budget.json");
const flags = new Set(process.argv.slice(2));

/** What rustc emits for this target without being asked; the generated JavaScript counts on it. */
const FEATURES = [
  "bulk-memory",
  "extended-const",
  "multivalue",
  "mutable-globals",
  "nontrapping-float-to-int",
  "reference-types",
  "sign-ext",
];

function run(command, args, options = {}) {
  return execFileSync(command, args, { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"], ...options });
}

function fail(message) {
  console.error(message);
  process.exit(1);
}

/** Paths of this machine are of no use in a panic message, and make the build differ from machine to machine. */
function rustFlags() {
  const cargoHome = process.env.CARGO_HOME ?? join(homedir(), ".cargo");
  const sources = join(cargoHome, "registry", "src");
  const registries = existsSync(sources) ? readdirSync(sources).map((name) => join(sources, name)) : [];
  const own = process.env.CARGO_ENCODED_RUSTFLAGS?.split("\x1f") ?? process.env.RUSTFLAGS?.split(" ") ?? [];
  const remaps = [...registries, root.replace(/\/$/, "")].map((path) => `--remap-path-prefix=${path}/=`);
  return [...own, ...remaps].filter(Boolean).join("\x1f");
}

/** The version that the crate asks for, which the tool must have too. */
function bindgenVersion() {
  const lock = readFileSync(join(root, "Cargo.lock"), "utf8");
  const found = /name = "wasm-bindgen"\nversion = "([^"]+)"/.exec(lock);
  return found?.[1] ?? fail("Cargo.lock names no wasm-bindgen");
}

/** Finds the tool in that version, and installs it into the target folder where there is none. */
function findBindgen() {
  const version = bindgenVersion();
  const tools = join(target, "tools");
  const candidates = [process.env.WASM_BINDGEN, "wasm-bindgen", join(tools, "bin", "wasm-bindgen")].filter(Boolean);
  const seen = [];
  for (const candidate of candidates) {
    try {
      const says = run(candidate, ["--version"], { stdio: ["ignore", "pipe", "ignore"] }).trim();
      if (says === `wasm-bindgen ${version}`) return candidate;
      seen.push(`${candidate} is ${says}`);
    } catch {
      // It is not there.
    }
  }
  const install = ["install", "wasm-bindgen-cli", "--version", version, "--root", tools];
  console.error(`wasm-bindgen ${version} is needed${seen.length ? ` (${seen.join(", ")})` : ""}: cargo ${install.join(" ")}`);
  try {
    run("cargo", install, { stdio: "inherit" });
  } catch {
    fail(`failed to install it; run yourself: cargo ${install.join(" ")}`);
  }
  return join(tools, "bin", "wasm-bindgen");
}

function findWasmOpt() {
  const path = join(here, "node_modules", ".bin", "wasm-opt");
  return existsSync(path) ? path : fail("wasm-opt is missing: run npm install in wasm/");
}

/**
 * Gives what goes in and out of the WASM the names in the JavaScript that wasm-opt has given it: the long ones end in hashes, and are a tenth of
 * what a worker loads.
 */
function shorten(text, { imports, exports }) {
  const replaced = (pattern, by, name) => {
    if (!pattern.test(text)) fail(`the generated JavaScript does not mention ${name}`);
    text = text.replace(pattern, by);
  };
  const modules = new Set(imports.map(([module]) => module));
  if (modules.size !== 1) fail(`the WASM imports from ${[...modules].join(", ")}`);
  for (const module of modules) replaced(new RegExp(`"${module.replaceAll(".", "\\.")}": `), () => '"a": ', module);
  for (const [, name, short] of imports) replaced(new RegExp(`^(\\s+)${name}:`, "m"), (_, space) => `${space}${JSON.stringify(short)}:`, name);
  for (const [name, short] of exports) {
    text = text.replace(new RegExp(`\\b(wasm|instance\\.exports)\\.${name}\\b`, "g"), (_, of) => `${of}[${JSON.stringify(short)}]`);
  }
  return text;
}

/**
 * Makes sure that importing the module does nothing but define: it runs in servers and bundlers that have no WASM. An address of its own would
 * make bundlers look for a file that is handed in instead.
 */
function checkGlue(text) {
  for (const word of ["import.meta", "\nimport ", "\nawait ", "process.", "require("]) {
    if (text.includes(word)) fail(`the generated JavaScript contains ${JSON.stringify(word)}`);
  }
  // Everything else stands inside functions and classes, which are indented.
  const calls = text.split("\n").filter((line) => /^(fetch|new |console|__wbg|init|wasm\.)/.test(line));
  if (calls.length) fail(`the generated JavaScript does something when it is imported: ${calls.join(" / ")}`);
}

/** Everything in bytes; compressed as a careful server does it. */
function weigh(bytes) {
  const params = { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_LGWIN]: 24, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length };
  return { raw: bytes.length, gzip: gzipSync(bytes, { level: 9 }).length, brotli: brotliCompressSync(bytes, { params }).length };
}

function checkBudget(weights) {
  if (flags.has("--set") || !existsSync(budgetFile)) {
    writeFileSync(budgetFile, `${JSON.stringify(weights, null, 2)}\n`);
    return;
  }
  const budget = JSON.parse(readFileSync(budgetFile, "utf8"));
  const over = Object.entries(weights).flatMap(([file, weight]) =>
    Object.entries(weight)
      .filter(([kind, bytes]) => !(bytes <= budget[file]?.[kind]))
      .map(([kind, bytes]) => `${file} ${kind} ${bytes} > ${budget[file]?.[kind]}`),
  );
  if (over.length) fail(`more than the budget allows: ${over.join(", ")} (a new budget: node build.mjs --set)`);
}

const bindgen = findBindgen();
const wasmOpt = findWasmOpt();
run("cargo", ["build", "--profile", "wasm", "--package", "rejoin-wasm", "--lib", "--target", "wasm32-unknown-unknown"], {
  stdio: "inherit",
  env: { ...process.env, CARGO_ENCODED_RUSTFLAGS: rustFlags() },
});

rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
const built = join(target, "wasm32-unknown-unknown", "wasm", "rejoin_wasm.wasm");
// What its classes look like in TypeScript is said in ts/host/contract.ts.
run(bindgen, [built, "--target", "web", "--no-typescript", "--omit-default-module-path", "--out-dir", out, "--out-name", "rejoin"]);
const wasm = join(out, "rejoin_bg.wasm");
const features = FEATURES.map((feature) => `--enable-${feature}`);
const optimized = (...passes) => run(wasmOpt, [wasm, "-o", wasm, ...features, ...passes]);
// Only that: its -O2 and -Oz take a twelfth off the raw bytes and add a tenth to the compressed ones.
const PASSES = ["--remove-unused-module-elements", "--duplicate-function-elimination"];
if (flags.has("--names")) {
  optimized("--debuginfo", ...PASSES);
} else {
  const shorter = optimized("--strip-debug", "--strip-producers", "--strip-target-features", ...PASSES, "--minify-imports-and-exports-and-modules");
  writeFileSync(join(out, "rejoin.js"), shorten(readFileSync(join(out, "rejoin.js"), "utf8"), JSON.parse(shorter)));
  writeFileSync(wasm, namedBySimilarity(readFileSync(wasm)));
  optimized("--reorder-functions-by-name", "--strip-debug");
}

const glue = readFileSync(join(out, "rejoin.js"));
checkGlue(glue.toString());
const weights = { "rejoin_bg.wasm": weigh(readFileSync(wasm)), "rejoin.js": weigh(glue) };
console.table(weights);
if (!flags.has("--names")) checkBudget(weights);
