// One phase of one workload with one peer, in a process of its own: started by run.mjs, tells what it found by a message.

import { measurer } from "./measure.mjs"

const { phase, peer, workload, ...given } = JSON.parse(process.env.BENCH_CELL)

const tell = message => process.send(message, () => process.exit(0))
const fail = error => tell({ error: error instanceof Error ? (error.message || error.name) : String(error), stack: error?.stack })
process.on("uncaughtException", fail)
process.on("unhandledRejection", fail)

const work = (await import(`../workloads/${workload}.mjs`)).default
const load = () => import(`../peers/${peer}.mjs`)
const context = { ...given, load, measure: measurer(given.serverPid) }
// What measures how a peer starts loads it itself.
if (!work.loads) context.peer = await load()
const result = await work[phase](context)
tell({ result: result ?? null })
