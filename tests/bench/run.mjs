// Runs the workloads with the peers, each cell in fresh processes, and writes results.json, RESULTS.md and charts/.
//
//   node run.mjs                             everything, as `make bench` does
//   node run.mjs --workload sync,open        these workloads, whose results are replaced
//   node run.mjs --workload sync --peer yjs  only prints: ratios of different runs are not to be compared
//   node run.mjs --quick                     tiny amounts, one round, only prints: to see that everything runs

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { loadavg, tmpdir } from "node:os"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { fileURLToPath } from "node:url"
import { machine, versionsOf } from "./lib/machine.mjs"
import { median } from "./lib/measure.mjs"
import { runPhase, startServer } from "./lib/processes.mjs"
import { writeReport } from "./lib/report.mjs"
import { peerNames, workloadNames } from "./lib/order.mjs"

const here = name => fileURLToPath(new URL(name, import.meta.url))

/** Seconds that a phase may take, if its workload says nothing. */
const SECONDS = 90
const ROUNDS = 3
/** Seconds after which a workload begins no further round: a busy machine gets fewer, and the report says how many. */
const BUDGET = Number(process.env.BENCH_BUDGET ?? 90)

/** Runs what the options name; returns the results, one for each workload. */
export async function run({ workloads = workloadNames(), peers = peerNames(), quick = false, rounds = ROUNDS, log = () => {}, done = () => {} } = {}) {
  if (quick) process.env.BENCH_QUICK = "1"
  const found = {}
  for (const name of workloads) {
    const work = (await import(`./workloads/${name}.mjs`)).default
    const scale = quick ? work.scale.quick : work.scale.full
    const cells = {}
    const turns = quick ? 1 : Math.min(rounds, work.rounds ?? rounds)
    const times = { began: new Date().toISOString(), load: loadavg()[0] }
    let round = 0
    for (const start = performance.now(); round < turns && (performance.now() - start) / 1000 < BUDGET; round++) {
      // Peers take turns, so that a noisy machine is noisy to all.
      for (const peer of peers) {
        const cell = (cells[peer] ??= { rounds: [] })
        if (cell.failed || cell.unsupported) continue
        const module = await import(`./peers/${peer}.mjs`)
        if (!applies(work, module)) {
          delete cells[peer]
          continue
        }
        const took = await runCell(name, work, peer, module, scale)
        if (took.failed) cell.failed = took.failed
        else if (took.unsupported) cell.unsupported = took.unsupported
        else cell.rounds.push(took)
        log(`${name} ${peer} ${round + 1}/${turns}: ${took.failed ? `failed: ${took.failed}` : (took.unsupported ?? shown(work, took))}`)
      }
    }
    for (const cell of Object.values(cells)) summarise(cell, work)
    found[name] = { title: work.title, story: work.story(scale), metrics: work.metrics, where: work.where, rounds: round, ...times, cells }
    done(name, found[name])
  }
  return found
}

/** Whether a peer takes part: with its server where there must be one, and not twice where its client is another peer's. */
function applies(work, peer) {
  if (work.inBrowser) return peer.browser !== undefined
  return work.server ? peer.server !== undefined : !peer.onlyWithServer
}

async function runCell(workload, work, peer, module, scale) {
  const dir = mkdtempSync(join(process.env.BENCH_TMP ?? tmpdir(), "rejoin-bench-"))
  const milliseconds = (work.seconds ?? SECONDS) * 1000
  let server
  try {
    if (work.server) server = await startServer(peer, module, join(dir, "server"))
    const cell = { workload, peer, dir, scale, url: server?.url, serverPid: server?.pid }
    const share = work.prepare ? await runPhase({ ...cell, phase: "prepare" }, milliseconds) : undefined
    return await runPhase({ ...cell, phase: "run", share }, milliseconds)
  } catch (error) {
    return { failed: error.message.replaceAll("\n", " ").slice(0, 160) }
  } finally {
    await server?.stop()
    rmSync(dir, { recursive: true, force: true, maxRetries: 3 })
  }
}

/** The median of each figure over the rounds. A peer that failed once has failed. */
function summarise(cell, work) {
  if (cell.failed || cell.unsupported) return
  const keys = [...work.metrics.map(({ key }) => key), "cpu", "serverCpu"]
  cell.median = Object.fromEntries(keys.map(key => [key, median(cell.rounds.map(round => round[key]))]))
}

function shown(work, took) {
  return work.metrics.map(({ key, title, unit }) => `${title} ${took[key]?.toFixed(1)} ${unit}`).join(", ")
}

async function main() {
  const { values } = parseArgs({
    options: {
      workload: { type: "string" },
      peer: { type: "string" },
      quick: { type: "boolean", default: false },
      rounds: { type: "string" },
    },
  })
  const list = text => text?.split(",")
  const isWritten = !values.quick && !values.peer
  const file = here("results.json")
  let results = { workloads: {} }
  if (isWritten && values.workload) results = JSON.parse(readFileSync(file, "utf8"))
  const versions = await versionsOf(peerNames())
  const began = performance.now()
  await run({
    ...(values.workload && { workloads: list(values.workload) }),
    ...(values.peer && { peers: list(values.peer) }),
    ...(values.rounds && { rounds: Number(values.rounds) }),
    quick: values.quick,
    log: line => console.log(line),
    // After each, so that a run that is broken off is not lost.
    done: (name, found) => {
      if (!isWritten) return
      results.workloads[name] = found
      results.machine = machine()
      results.versions = versions
      writeFileSync(file, `${JSON.stringify(results, undefined, 1)}\n`)
    },
  })
  if (isWritten) await writeReport(results, here("."))
  console.log(`done in ${Math.round((performance.now() - began) / 1000)} s`)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main()
