/**
 * What the end-to-end tests share: a server of `e2e/dist` on a free port, Debian's Chromium with a new empty profile, and the engine's words.
 *
 * The engine is the tests' counters, or the real one with ENGINE=real (then `node bundle.mjs --e2e --out=e2e/dist` comes first): the scripts
 * speak of `add` and `total`, and `words` says what that is in either.
 */
import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP insecure.test 127.0.0.1"];
const TYPES = { ".js": "text/javascript", ".wasm": "application/wasm", ".html": "text/html", ".map": "application/json" };
const DIST = process.env.E2E_DIST ?? fileURLToPath(new URL("./dist", import.meta.url));

export const isReal = process.env.ENGINE === "real";

/** Makes a document's id: bs58check of 16 random bytes. */
export function newId() {
  const bytes = randomBytes(16);
  const sha = (data) => createHash("sha256").update(data).digest();
  const checked = Buffer.concat([bytes, sha(sha(bytes)).subarray(0, 4)]);
  let number = BigInt(`0x${checked.toString("hex")}`);
  let text = "";
  for (; number > 0n; number /= 58n) text = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"[Number(number % 58n)] + text;
  for (const byte of checked) {
    if (byte !== 0) break;
    text = `1${text}`;
  }
  return text;
}

/** Starts the server; `fail` makes it answer 404 for a path. */
export async function serve() {
  const missing = new Set();
  const server = createServer(async (request, response) => {
    const path = new URL(request.url ?? "/", "http://localhost").pathname;
    if (path === "/") {
      response.writeHead(200, { "content-type": "text/html" }).end("<!doctype html><title>rejoin</title>");
      return;
    }
    try {
      if (missing.has(path)) throw new Error("gone");
      const body = await readFile(join(DIST, path));
      response.writeHead(200, { "content-type": TYPES[extname(path)] ?? "application/octet-stream" }).end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${server.address().port}/`, missing, close: () => server.close() };
}

/** Starts a browser with a new empty profile. */
export async function browse(profile) {
  const made = profile ?? (await mkdtemp(join(tmpdir(), "rejoin-e2e-")));
  const context = await chromium.launchPersistentContext(made, {
    executablePath: "/usr/bin/chromium",
    args: FLAGS,
    ignoreDefaultArgs: ["--enable-automation"],
  });
  return {
    context,
    profile: made,
    /** Kills the browser's process, found by its profile: nothing of it gets to say goodbye. */
    kill: async () => {
      for (const pid of await processesOf(made)) {
        try {
          process.kill(pid, "SIGKILL");
        } catch {
          // It was gone already.
        }
      }
    },
    close: async (keep = false) => {
      await context.close().catch(() => {});
      if (!keep) await rm(made, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

/** The ids of the processes that were started with this profile, the browser's own first. */
async function processesOf(profile) {
  const ids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const found = [];
  for (const id of ids) {
    const line = await readFile(`/proc/${id}/cmdline`, "utf8").catch(() => "");
    if (line.includes(`--user-data-dir=${profile}`) && Number(id) !== process.pid) found.push(Number(id));
  }
  return found;
}

/** Opens a page and, in it, a link; `before` runs in the page before anything else. */
export async function tab(context, url, { name = "app", options = {}, before } = {}) {
  const page = await context.newPage();
  page.on("pageerror", (error) => console.error("    page:", error.message));
  if (before) await page.addInitScript(before);
  await page.goto(url);
  await page.evaluate(
    async ({ name, options }) => {
      const { connectLink, inline } = await import("/page.js");
      const keep = { ...options };
      if (keep.inline) Object.assign(keep, inline());
      delete keep.inline;
      if (keep.ownWorker) keep.worker = () => (window.worker = new Worker("/worker.js", { type: "module" }));
      delete keep.ownWorker;
      window.events = [];
      window.link = await connectLink({ name, ...keep });
      window.link.onEvent((event) => window.events.push(event));
      window.ask = (method, ...args) => window.link.request(method, args).result;
    },
    { name, options },
  );
  return page;
}

/** Sends a request of the engine and awaits its answer. */
export const ask = (page, method, ...args) => page.evaluate(([method, args]) => window.ask(method, ...args), [method, args]);

/** What the scripts say, in the words of the engine at hand. The document's id is any well-formed one. */
export const DOC = isReal ? "4NMNnkMhL8jXrdJ9jamS58PAVdXu" : "counter";
export const words = isReal
  ? {
      make: (page) => ask(page, "create", DOC, null, { n: { $counter: 0 } }),
      add: ["edit", DOC, null, [["increment", ["n"], 1]], {}],
      total: async (page) => (await ask(page, "get", DOC, ["n"])).$counter,
    }
  : { make: async () => {}, add: ["add", DOC, 1], total: (page) => ask(page, "get", DOC) };

/** Begins to write without end, keeping up to `depth` writes under way; `window.written` counts the acknowledged ones. */
export const startWriting = (page, depth = 4) =>
  page.evaluate(
    ([add, depth]) => {
      window.written = 0;
      window.asked = 0;
      window.refused = [];
      window.isWriting = true;
      window.writers = Array.from({ length: depth }, async () => {
        while (window.isWriting) {
          window.asked++;
          await window.ask(...add).then(
            () => window.written++,
            (error) => window.refused.push(String(error.code)),
          );
        }
      });
    },
    [words.add, depth],
  );

/** Stops writing, and says how many writes were acknowledged, asked for and refused. */
export const stopWriting = (page) =>
  page.evaluate(async () => {
    window.isWriting = false;
    await Promise.all(window.writers);
    return { written: window.written, asked: window.asked, refused: window.refused };
  });

/** How long until the page's next request is answered, in milliseconds, from the moment `event` is done. */
export async function answerAfter(page, event) {
  await page.evaluate(() => {
    window.answers = [];
    window.isAsking = true;
    window.asker = (async () => {
      while (window.isAsking) {
        const asked = performance.timeOrigin + performance.now();
        await window.ask("status");
        window.answers.push([asked, performance.timeOrigin + performance.now()]);
      }
    })();
  });
  await new Promise((resolve) => setTimeout(resolve, 50));
  const at = Date.now();
  await event();
  await new Promise((resolve) => setTimeout(resolve, 800));
  const answers = await page.evaluate(async () => {
    window.isAsking = false;
    await window.asker;
    return window.answers;
  });
  // The longest silence that ended after the event is the time without an engine.
  return Math.max(...answers.filter(([, answered]) => answered >= at).map(([asked, answered]) => answered - Math.max(asked, at)));
}

/** Runs the cases one after another, prints how they went, and ends the process with their outcome. */
export async function run(cases, seconds = 60) {
  let passed = 0;
  let failed = 0;
  const only = process.argv[2];
  for (const [title, test] of Object.entries(cases)) {
    if (only && !title.includes(only)) continue;
    const server = await serve();
    const browser = await browse();
    const started = Date.now();
    try {
      let limit;
      const notes = await Promise.race([
        test({ server, url: server.url, context: browser.context, browser }),
        new Promise((_, reject) => (limit = setTimeout(() => reject(new Error(`took longer than ${seconds} s`)), seconds * 1000))),
      ]);
      clearTimeout(limit);
      passed++;
      console.log(`ok    ${title}${notes ? ` (${notes})` : ""} ${Date.now() - started} ms`);
    } catch (error) {
      failed++;
      console.log(`FAIL  ${title}\n${error.stack ?? error}`);
    } finally {
      await browser.close();
      server.close();
    }
  }
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed ? 1 : 0);
}
