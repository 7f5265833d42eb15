/**
 * In Debian's Chromium, as a user has it: the engine in a worker, the store in OPFS.
 *
 *   node bundle.mjs && node bench/browser.mjs           1,000 writes to durable; opening with 100, 1,000 and 10,000 documents stored
 *   node bench/browser.mjs writes|open                  one of them
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

/** From the call of `Repo.open` to the first value that was stored, in a new page each time; the package is in the HTTP cache. */
async function open(profile, url, counts) {
  const rows = [];
  for (const count of counts) {
    const name = `open-${count}`;
    let context = await browse(profile);
    let page = await context.newPage();
    await page.goto(url);
    const id = await page.evaluate(
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
    await context.close();
    const times = [];
    context = await browse(profile);
    for (let run = 0; run <= RUNS; run++) {
      page = await context.newPage();
      await page.goto(url);
      const time = await page.evaluate(
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
      // The first finds the caches of a browser that has just been started.
      if (run > 0) times.push(time);
      await page.close();
    }
    await context.close();
    const middle = (key) => round(median(times.map((time) => time[key])));
    rows.push([count.toLocaleString("en"), ...Object.keys(times[0]).map(middle)]);
  }
  table("Opening, wall ms", ["documents stored", "import the page's part", "open the repo", "first read", "all"], rows);
}

const server = await serve();
const profile = await mkdtemp(join(tmpdir(), "rejoin-bench-"));
try {
  const context = await browse(profile);
  machine(`, Chromium ${context.browser()?.version() ?? ""}`);
  if (!only || only === "writes") await writes(context, server.url);
  await context.close();
  if (!only || only === "open") await open(profile, server.url, (process.env.COUNTS ?? "100,1000,10000").split(",").map(Number));
} finally {
  server.close();
  await rm(profile, { recursive: true, force: true, maxRetries: 5 });
}
