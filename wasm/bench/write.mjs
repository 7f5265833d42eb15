/**
 * One field of a document of 1,000 records, written through the public API, from the page to the `local` receipt; and one keystroke in a text of
 * 100 kB. In Node, where engine and page share a thread: CPU milliseconds of the whole process, its garbage collection included.
 *
 *   node bundle.mjs && node bench/write.mjs
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as A from "@automerge/automerge";
import * as Y from "yjs";
import { Repo, text } from "../dist/index.js";
import { cpu, machine, medians, round, table } from "./measure.mjs";

const WRITES = 200;
const RUNS = Number(process.env.RUNS ?? 7);
const records = () => Object.fromEntries(Array.from({ length: 1000 }, (_, n) => [`r${n}`, { title: `Record ${n}`, done: false, n, owner: { name: "Ada" } }]));
const LONG = "All work and no play makes Jack a dull boy.\n".repeat(2328).slice(0, 100_000);
const directory = mkdtempSync(join(tmpdir(), "rejoin-bench-"));

const memory = await Repo.open({ name: "bench", storage: "memory" });
const file = await Repo.open({ name: "bench", directory });
const only = process.argv[2];

async function field() {
  const cases = {};
  for (const [name, repo] of [["rejoin, in memory", memory], ["rejoin, in a file, flushed", file]]) {
    const doc = await repo.create({ records: records() });
    cases[name] = (run) =>
      cpu(async () => {
        for (let n = 0; n < WRITES; n++) await doc.set(["records", `r${n * 5}`, "title"], `Title ${run} ${n}`);
      });
    const batch = await repo.create({ records: records() });
    cases[`${name}, not awaited one by one`] = (run) =>
      cpu(async () => {
        const all = [];
        for (let n = 0; n < WRITES; n++) all.push(batch.set(["records", `r${n * 5}`, "title"], `Title ${run} ${n}`));
        await Promise.all(all);
      });
  }
  let theirs = A.from({ records: records() });
  cases["@automerge/automerge `change`, no storage"] = (run) =>
    cpu(() => {
      for (let n = 0; n < WRITES; n++) theirs = A.change(theirs, (d) => void (d.records[`r${n * 5}`].title = `Title ${run} ${n}`));
    });
  const ydoc = new Y.Doc();
  const yrecords = ydoc.getMap("records");
  ydoc.transact(() => {
    for (const [key, record] of Object.entries(records())) yrecords.set(key, new Y.Map(Object.entries(record)));
  });
  cases["yjs, no storage"] = (run) =>
    cpu(() => {
      for (let n = 0; n < WRITES; n++) yrecords.get(`r${n * 5}`).set("title", `Title ${run} ${n}`);
    });
  show("One field of a document of 1,000 records", await medians(cases, RUNS));
}

async function keystroke() {
  const cases = {};
  for (const [name, repo] of [["rejoin, in memory", memory], ["rejoin, in a file, flushed", file]]) {
    const doc = await repo.create({ body: text(LONG) });
    const body = doc.text("body");
    let at = 50_000;
    cases[name] = () =>
      cpu(async () => {
        for (let n = 0; n < WRITES; n++) await body.splice(at++, 0, "x");
      });
  }
  let theirs = A.from({ body: LONG });
  let at = 50_000;
  cases["@automerge/automerge `change`, no storage"] = () =>
    cpu(() => {
      for (let n = 0; n < WRITES; n++) theirs = A.change(theirs, (d) => A.splice(d, ["body"], at++, 0, "x"));
    });
  const ytext = new Y.Doc().getText("body");
  ytext.insert(0, LONG);
  let yat = 50_000;
  cases["yjs, no storage"] = () =>
    cpu(() => {
      for (let n = 0; n < WRITES; n++) ytext.insert(yat++, "x");
    });
  show("One keystroke in a text of 100 kB", await medians(cases, RUNS));
}

function show(title, found) {
  const theirs = found["@automerge/automerge `change`, no storage"];
  const rows = Object.entries(found).map(([name, milliseconds]) => [name, round(milliseconds / WRITES), `${(theirs / milliseconds).toFixed(1)} x`]);
  table(title, ["", "CPU ms a write", "as fast as automerge"], rows);
}

machine();
if (!only || only === "field") await field();
if (!only || only === "text") await keystroke();
await Promise.all([memory.close(), file.close()]);
rmSync(directory, { recursive: true });
