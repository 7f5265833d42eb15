/** What the stories share: a relay that serves the page, a browser whose windows are devices, and the count of what passed. */
import { spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
export const DIST = here("../dist");
export const SHOTS = here("./shots");
const RELAY = process.env.REJOIN_RELAY ?? here("../../target/debug/rejoin-relay");
const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
/** How long anything may take to show. A loaded machine is slow; what hangs should still end. */
const PATIENCE_MS = Number(process.env.PATIENCE_MS ?? 15_000);

/** A relay in a process of its own, which can be killed and started again at the same address. */
export class Relay {
  #data;
  #process;
  url;

  async start() {
    this.#data ??= await mkdtemp(join(tmpdir(), "rejoin-demo-relay-"));
    const listen = this.url ? new URL(this.url).host : "127.0.0.1:0";
    const child = spawn(RELAY, ["serve", "--open", "--admin-enabled=false", "--data", this.#data, "--listen", listen, "--demo", DIST], { stdio: ["ignore", "pipe", "pipe"] });
    this.#process = child;
    let said = "";
    this.url = await new Promise((resolve, reject) => {
      const hear = (chunk) => {
        said += chunk;
        const found = /listening on (http:\/\/[\d.:]+)/.exec(said);
        if (found) resolve(`${found[1]}/`);
      };
      child.stdout.on("data", hear);
      child.stderr.on("data", hear);
      child.once("exit", (code) => reject(new Error(`the relay ended with ${code}: ${said}`)));
    });
    return this;
  }

  /** As a power cut would: nothing is said to anybody. */
  async kill() {
    const child = this.#process;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await gone;
  }

  async end() {
    await this.kill();
    if (this.#data) await rm(this.#data, { recursive: true, force: true });
  }
}

export const launch = () => chromium.launch({ executablePath: "/usr/bin/chromium", args: FLAGS });

/** What any window has complained of, with where. */
export const complaints = [];
/** While the relay is killed, Chromium itself complains of each attempt to reach it. */
export const expected = { unreachable: false };
const UNREACHABLE = /WebSocket connection to .* failed|net::ERR_(CONNECTION_REFUSED|CONNECTION_RESET|INTERNET_DISCONNECTED|EMPTY_RESPONSE)|Failed to load resource/;

/** A new device: a browser context of its own, with its own store, person and service worker. */
export async function device(browser, name, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, permissions: ["clipboard-read", "clipboard-write"], ...options });
  context.setDefaultTimeout(PATIENCE_MS);
  context.on("console", (message) => {
    if (message.type() !== "error") return;
    if (expected.unreachable && UNREACHABLE.test(message.text())) return;
    complaints.push(`${name}: ${message.text()}`);
  });
  context.on("weberror", (error) => complaints.push(`${name}: ${error.error().stack ?? error.error()}`));
  await context.addInitScript(
    ([key, value]) => {
      // Empty pages have no storage.
      if (location.protocol.startsWith("http") && !localStorage.getItem(key)) localStorage.setItem(key, value);
    },
    ["rejoin-demo:me", JSON.stringify({ id: `person-${name}`, name, colour: name === "Ada" ? "violet" : name === "Bo" ? "orange" : "teal" })],
  );
  return context;
}

let passed = 0;
let failed = 0;
const only = process.argv[2];

/** Runs one story, and goes on to the next whatever becomes of it. */
export async function story(title, tell) {
  if (only && !title.includes(only)) return;
  const began = Date.now();
  const before = complaints.length;
  try {
    await tell();
    if (complaints.length > before) throw new Error(`complaints in the console:\n    ${complaints.slice(before).join("\n    ")}`);
    passed++;
    console.log(`ok    ${title} (${Date.now() - began} ms)`);
  } catch (error) {
    failed++;
    console.log(`FAIL  ${title}\n  ${String(error?.stack ?? error).replaceAll("\n", "\n  ")}`);
  } finally {
    expected.unreachable = false;
  }
}

export function total() {
  console.log(`${passed} passed, ${failed} failed`);
  return failed === 0;
}

/** Waits until a function answers what is expected of it. */
export async function until(what, ask, holds = (answer) => answer === true) {
  const end = Date.now() + PATIENCE_MS;
  let answer;
  for (;;) {
    answer = await ask();
    if (holds(answer)) return answer;
    if (Date.now() > end) throw new Error(`waited in vain until ${what}; last: ${JSON.stringify(answer)}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

export function equal(found, wanted, what) {
  const [a, b] = [JSON.stringify(found), JSON.stringify(wanted)];
  if (a !== b) throw new Error(`${what}:\n    found  ${a}\n    wanted ${b}`);
}

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** Fails if somebody who cannot see, or uses no mouse, would be left out of what a window shows. */
export async function accessible(window, what) {
  await window.evaluate(AXE);
  // What fades in or out has colours of its own meanwhile.
  await window.waitForTimeout(400);
  const { violations } = await window.evaluate(() => globalThis.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"] }));
  const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  const said = serious.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html.slice(0, 160)} ${failureSummary?.split("\n")[1] ?? ""}`).join("\n      ")}`);
  if (said.length) throw new Error(`${what} is not accessible:\n    ${said.join("\n    ")}`);
}

const VIEWS = [
  ["desktop", 1280, 800],
  ["phone", 390, 844],
];

/** Takes a picture at both widths, light and dark, and sees to it that nothing stands out at the side. */
export async function shots(page, name) {
  await mkdir(SHOTS, { recursive: true });
  for (const [view, width, height] of VIEWS) {
    await page.setViewportSize({ width, height });
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      await page.waitForTimeout(80);
      await page.screenshot({ path: join(SHOTS, `${name}-${view}-${colorScheme}.png`) });
    }
  }
  await page.setViewportSize({ width: 360, height: 640 });
  const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  if (over > 0) throw new Error(`${name} is ${over} px too wide for a small phone`);
  await page.setViewportSize({ width: 1280, height: 800 });
  await page.emulateMedia({ colorScheme: null, reducedMotion: null });
}

/** Fails with a word of advice where something was not built. */
export function need() {
  const wants = [
    [DIST, "npm run build"],
    [RELAY, "cargo build -p rejoin-relay"],
  ];
  for (const [path, how] of wants) if (!existsSync(path)) throw new Error(`there is no ${path}: ${how}`);
  const { stdout } = spawnSync(RELAY, ["serve", "--help"], { encoding: "utf8" });
  if (!stdout.includes("--demo")) throw new Error(`${RELAY} cannot serve the demo: build it again`);
}
