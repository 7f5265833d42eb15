/**
 * In Debian's Chromium, as a user has it: the engine in a worker, the store in OPFS.
 *
 *   node bundle.mjs && node bench/browser.mjs           1,000 writes to durable; opening with 100, 1,000 and 10,000 documents stored
 *   node bench/browser.mjs writes|keys|open             one of them
 */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants } from "node:zlib";
import { chromium } from "playwright-core";
import { machine, median, round, table } from "./measure.mjs";

const DIST = fileURLToPath(new URL("../dist", import.meta.url));
const TYPES = { ".js": "text/javascript", ".wasm": "application/wasm" };
const RUNS = Number(process.env.RUNS ?? 7);
const only = process.argv[2];

/** Serves the package, compressed and to be cached, as a real host does. */
async function serve() {
  const files = new Map();
  const server = createServer(async (request, response) => {
    const path = new URL(request.url ?? "/", "http://localhost").pathname;
    if (path === "/") return response.writeHead(200, { "content-type": "text/html" }).end("<!doctype html><title>bench</title>");
    try {
      if (!files.has(path)) {
        const plain = await readFile(join(DIST, path));
        files.set(path, brotliCompressSync(plain, { params: { [constants.BROTLI_PARAM_QUALITY]: 5 } }));
      }
      const headers = { "content-type": TYPES[extname(path)] ?? "text/plain", "content-encoding": "br", "cache-control": "public, max-age=31536000, immutable" };
      response.writeHead(200, headers).end(files.get(path));
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${server.address().port}/`, close: () => server.close() };
}

const browse = (profile) =>
  chromium.launchPersistentContext(profile, {
    executablePath: "/usr/bin/chromium",
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"],
    ignoreDefaultArgs: ["--enable-automation"],
  });

/** 1,000 records written at once, until all are durable. */
async function writes(context, url) {
  const page = await context.newPage();
  await page.goto(url);
  const all = await page.evaluate(async (runs) => {
    const { Repo } = await import("/index.js");
    const repo = await Repo.open({ name: "writes" });
    const record = (run, n) => ({ title: `Record ${n} of ${run}`, done: false, n, note: "x".repeat(120) });
    const doc = await repo.create({ records: {} });
    const one = await repo.create({ records: {} });
    const database = await new Promise((resolve, reject) => {
      const request = indexedDB.open("bench", 1);
      request.onupgradeneeded = () => request.result.createObjectStore("records");
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
    const puts = (durability, perTransaction) => async (run) => {
      const waits = [];
      for (let n = 0; n < 1000; ) {
        const transaction = database.transaction("records", "readwrite", { durability });
        const store = transaction.objectStore("records");
        for (let k = 0; k < perTransaction; k++, n++) store.put(record(run, n), `r${n}`);
        waits.push(new Promise((resolve, reject) => {
          transaction.oncomplete = resolve;
          transaction.onerror = () => reject(transaction.error);
        }));
      }
      await Promise.all(waits);
    };
    const cases = {
      "rejoin: 1,000 writes, each a change of its own": async (run) => {
        const waits = [];
        for (let n = 0; n < 1000; n++) waits.push(doc.set(["records", `r${n}`], record(run, n)));
        await Promise.all(waits);
      },
      "rejoin: 1,000 records in one change": (run) =>
        one.change((draft) => {
          for (let n = 0; n < 1000; n++) draft.records[`r${n}`] = record(run, n);
        }),
      "IndexedDB strict, a transaction for all": puts("strict", 1000),
      "IndexedDB relaxed, a transaction for all": puts("relaxed", 1000),
      "IndexedDB strict, a transaction each": puts("strict", 1),
      "IndexedDB relaxed, a transaction each": puts("relaxed", 1),
    };
    const found = Object.fromEntries(Object.keys(cases).map((name) => [name, []]));
    for (let run = 0; run <= runs; run++) {
      for (const [name, measure] of Object.entries(cases)) {
        const begun = performance.now();
        await measure(run);
        if (run > 0) found[name].push(performance.now() - begun);
      }
    }
    const { storage } = repo.status;
    await repo.close();
    return { found, storage };
  }, RUNS);
  table(`1,000 records of 200 bytes until durable, wall (${all.storage})`, ["", "ms"], Object.entries(all.found).map(([name, times]) => [name, round(median(times))]));
  await page.close();
}

/** Typing into a text of 100 kB and writing a field, one after the other: how long the page is busy, and when it is durable. */
async function keys(context, url) {
  const found = await inPage(context, url, (page) =>
    page.evaluate(async (count) => {
      const { Repo, text } = await import("/index.js");
      const repo = await Repo.open({ name: "keys" });
      const records = Object.fromEntries(Array.from({ length: 1000 }, (_, n) => [`r${n}`, { title: `Record ${n}`, done: false, n }]));
      const doc = await repo.create({ body: text("All work and no play makes Jack a dull boy.\n".repeat(2328).slice(0, 100_000)) });
      const table = await repo.create({ records });
      const body = doc.text("body");
      const cases = {
        "a keystroke in a text of 100 kB": (n) => body.splice(50_000 + n, 0, "x"),
        "a field of a document of 1,000 records": (n) => table.set(["records", `r${n}`, "title"], `Title ${n}`),
      };
      const middle = (numbers) => numbers.sort((a, b) => a - b)[numbers.length >> 1];
      const rows = [];
      for (const [name, write] of Object.entries(cases)) {
        const [busy, durable] = [[], []];
        for (let n = 0; n < count; n++) {
          const begun = performance.now();
          const written = write(n);
          busy.push(performance.now() - begun);
          await written;
          durable.push(performance.now() - begun);
        }
        rows.push([name, middle(busy), middle(durable)]);
      }
      await repo.close();
      return rows;
    }, 500),
  );
  table("One write after the other, wall ms, middle of 500", ["", "the page is busy", "durable"], found.map(([name, ...times]) => [name, ...times.map(round)]));
}

/** Fills a store with documents, and returns the id of one of them. */
const fill = (page, name, count) =>
  page.evaluate(
    async ([name, count]) => {
      const { Repo } = await import("/index.js");
      const repo = await Repo.open({ name });
      let id = "";
      for (let made = 0; made < count; ) {
        const some = [];
        for (let n = 0; n < 500 && made < count; n++, made++) some.push(repo.create({ title: `Document ${made}`, done: false }));
        const docs = await Promise.all(some);
        id = docs[0].id;
        for (const doc of docs) doc.close();
      }
      await repo.close();
      return id;
    },
    [name, count],
  );

/** Opens a store and reads a document of it. */
const openAndRead = (page, name, id) =>
  page.evaluate(
    async ([name, id]) => {
      const begun = performance.now();
      const { Repo } = await import("/index.js");
      const imported = performance.now();
      const repo = await Repo.open({ name });
      const opened = performance.now();
      const doc = await repo.open(id);
      if (!doc.value.title.startsWith("Document")) throw new Error("not what was stored");
      const read = performance.now();
      await repo.close();
      return { "import the page's part": imported - begun, "open the repo": opened - imported, "first read": read - opened, all: read - begun };
    },
    [name, id],
  );

/** What a worker does before the engine runs, one after the other: most of it is what opening a repo takes. */
const PIECES = `onmessage = async ({ data: asked }) => {
  const times = { "start a worker": performance.timeOrigin + performance.now() - asked };
  let at = performance.now();
  const lap = (name) => { const now = performance.now(); times[name] = now - at; at = now; };
  await navigator.locks.request("bench", () => {});
  lap("take a lock");
  const directory = await (await navigator.storage.getDirectory()).getDirectoryHandle("bench", { create: true });
  const handle = await (await directory.getFileHandle("file", { create: true })).createSyncAccessHandle();
  handle.close();
  lap("open a file");
  const module = await WebAssembly.compileStreaming(fetch(new URL("/rejoin.wasm", location.origin)));
  lap("fetch and compile the WASM");
  postMessage(times);
};`;

const pieces = (page) =>
  page.evaluate(
    (source) =>
      new Promise((resolve) => {
        const worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })), { type: "module" });
        worker.onmessage = ({ data }) => resolve(data);
        worker.postMessage(performance.timeOrigin + performance.now());
      }),
    PIECES.replaceAll("location.origin", JSON.stringify(new URL(page.url()).origin)),
  );

const inPage = async (context, url, run) => {
  const page = await context.newPage();
  try {
    await page.goto(url);
    return await run(page);
  } finally {
    await page.close();
  }
};

/**
 * From the import of the package to the first value that was stored, in a new page each time; the package is in the HTTP cache. The sizes of store
 * take turns. The best of the runs says more than the middle where others use the machine too.
 */
async function open(profile, url, counts) {
  let context = await browse(profile);
  const ids = [];
  for (const count of counts) ids.push(await inPage(context, url, (page) => fill(page, `open-${count}`, count)));
  await context.close();
  // A browser that has just been started, whose caches were filled before.
  context = await browse(profile);
  const times = counts.map(() => []);
  const parts = [];
  for (let run = 0; run <= RUNS; run++) {
    for (const [at, count] of counts.entries()) {
      const time = await inPage(context, url, (page) => openAndRead(page, `open-${count}`, ids[at]));
      if (run > 0) times[at].push(time);
    }
    const part = await inPage(context, url, pieces);
    if (run > 0) parts.push(part);
  }
  await context.close();
  const shown = (all, key) => `${round(median(all.map((time) => time[key])))} (${round(Math.min(...all.map((time) => time[key])))})`;
  const keys = Object.keys(times[0][0]);
  table("Opening, wall ms: middle (best)", ["documents stored", ...keys], counts.map((count, at) => [count.toLocaleString("en"), ...keys.map((key) => shown(times[at], key))]));
  table("Of which, measured apart", ["", "ms"], Object.keys(parts[0]).map((key) => [key, shown(parts, key)]));
}

const server = await serve();
const profile = await mkdtemp(join(tmpdir(), "rejoin-bench-"));
try {
  const context = await browse(profile);
  machine(`, Chromium ${context.browser()?.version() ?? ""}`);
  if (!only || only === "writes") await writes(context, server.url);
  if (!only || only === "keys") await keys(context, server.url);
  await context.close();
  if (!only || only === "open") await open(profile, server.url, (process.env.COUNTS ?? "100,1000,10000").split(",").map(Number));
} finally {
  server.close();
  await rm(profile, { recursive: true, force: true, maxRetries: 5 });
}
