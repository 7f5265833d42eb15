// Every workload runs, in small, with ours and two peers, so that the suite does not rot; and the report is what it is made of.

import assert from "node:assert/strict"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { describe, test } from "node:test"
import { bars, figure, grid } from "../lib/chart.mjs"
import { cpuOf, median, memoryOf, percentile } from "../lib/measure.mjs"
import { peerNames, workloadNames } from "../lib/order.mjs"
import { writeReport } from "../lib/report.mjs"
import { run } from "../run.mjs"

const PEERS = ["rejoin", "automerge-repo", "yjs"]

describe("every workload", () => {
  for (const workload of workloadNames()) {
    test(`${workload} runs with ${PEERS.join(", ")}`, { timeout: 120_000 }, async () => {
      const found = await run({ workloads: [workload], peers: PEERS, quick: true })
      const { cells, metrics } = found[workload]
      assert.deepEqual(Object.keys(cells), PEERS)
      for (const [peer, cell] of Object.entries(cells)) {
        assert.ok(cell.median, `${peer}: ${cell.failed ?? cell.unsupported}`)
        for (const { key } of metrics) assert.ok(cell.median[key] >= 0, `${peer} has no ${key}: ${cell.median[key]}`)
        assert.ok(cell.median[metrics[0].key] > 0 || metrics[0].key === "server", `${peer}: ${metrics[0].key} is nothing`)
      }
    })
  }
})

describe("a cell that goes wrong", () => {
  test("is shown with its reason, and does not stop the others", async () => {
    const before = process.env.REJOIN_RELAY
    process.env.REJOIN_RELAY = "/nowhere/rejoin-relay"
    try {
      const found = await run({ workloads: ["sync"], peers: ["rejoin", "yjs"], quick: true })
      assert.match(found.sync.cells.rejoin.failed, /ENOENT/)
      assert.ok(found.sync.cells.yjs.median)
    } finally {
      if (before === undefined) delete process.env.REJOIN_RELAY
      else process.env.REJOIN_RELAY = before
    }
  })
})

describe("the report", () => {
  test("is what results.json says, and nothing else is committed", async () => {
    const here = name => new URL(`../${name}`, import.meta.url)
    const folder = mkdtempSync(join(tmpdir(), "rejoin-bench-report-"))
    try {
      writeFileSync(join(folder, "native.json"), readFileSync(here("native.json")))
      await writeReport(JSON.parse(readFileSync(here("results.json"), "utf8")), folder)
      assert.equal(readFileSync(here("RESULTS.md"), "utf8"), readFileSync(join(folder, "RESULTS.md"), "utf8"), "run `node lib/report.mjs`")
    } finally {
      rmSync(folder, { recursive: true })
    }
  })

  test("shows who lost, who failed and who has none", async () => {
    const folder = mkdtempSync(join(tmpdir(), "rejoin-bench-report-"))
    const cell = value => ({ rounds: [{ write: value }], median: { write: value, cpu: 1 } })
    const write = {
      title: "Write: it",
      story: "A story.",
      metrics: [{ key: "write", title: "a write", unit: "µs" }],
      rounds: 1,
      load: 1,
      began: "2026-11-22T01:00:00.000Z",
      cells: { rejoin: cell(10), yjs: cell(5), loro: { rounds: [], failed: "it broke" }, pouchdb: { rounds: [], unsupported: "it has none" } },
    }
    try {
      writeFileSync(join(folder, "native.json"), `{ "note": "", "rows": [] }`)
      await writeReport({ machine: {}, versions: {}, workloads: { write } }, folder)
      const text = readFileSync(join(folder, "RESULTS.md"), "utf8")
      assert.match(text, /Yjs \+ y-websocket \| 5.00 \| \*\*0.50\*\*/)
      assert.match(text, /failed: it broke/)
      assert.match(text, /none: it has none/)
      assert.match(text, /Write: a write \| Yjs \+ y-websocket 0.50 \|/)
      assert.match(readFileSync(join(folder, "charts/write.svg"), "utf8"), /^<svg .*failed.*none/s)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })

  test("has a file for each peer and workload that it names", () => {
    assert.ok(peerNames().length >= 9)
    assert.ok(workloadNames().length >= 13)
  })
})

describe("figures", () => {
  test("are medians and percentiles", () => {
    assert.equal(median([3, 1, 2]), 2)
    assert.equal(median([4, 1, 2, 3]), 2)
    assert.equal(percentile([1, 2, 3, 4], 0.99), 4)
  })

  test("are read in three digits", () => {
    assert.deepEqual([1234.5, 123.4, 12.34, 1.234, 0.0123].map(figure), ["1,235", "123", "12.3", "1.23", "0.012"])
    assert.equal(figure(0), "0")
  })

  test("of a process are its processor time and its memory", () => {
    const before = cpuOf(process.pid)
    for (const until = performance.now() + 60; performance.now() < until; );
    assert.ok(cpuOf(process.pid) >= before + 20)
    assert.ok(memoryOf(process.pid) > 10e6)
  })

  test("of names with signs are escaped in a chart", () => {
    assert.match(bars("a < b & c", "", [{ name: "x", value: 1, text: "1" }]), /a &lt; b &amp; c/)
    assert.match(grid("g", "", ["one"], [{ name: "row", cells: [0.5] }]), /0.50 x/)
  })
})
