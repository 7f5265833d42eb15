// What the two load drivers share: their arguments, the clock of a run, and the one line they print at its end.

import { readFileSync } from "node:fs"
import { emit } from "./lines.mjs"
import { parseArgs } from "node:util"

/**
 * The arguments every load driver takes; `extra` adds a driver's own.
 *
 * `--window` is how many changes of a document may wait for their acknowledgement, `--rate` how many changes are sent a
 * second over all documents together (0: as fast as the window allows), `--pid` whose processor time is told.
 */
export function loadFlags(extra = {}) {
  const { values } = parseArgs({
    options: {
      url: { type: "string" },
      documents: { type: "string", default: "10" },
      readers: { type: "string", default: "5" },
      changes: { type: "string", default: "100" },
      window: { type: "string", default: "0" },
      rate: { type: "string", default: "0" },
      pid: { type: "string" },
      "timeout-ms": { type: "string", default: "120000" },
      ...extra,
    },
  })
  if (values.url === undefined) throw new Error("--url is missing")
  const window = Number(values.window)
  return {
    ...values,
    documents: Number(values.documents),
    readers: Number(values.readers),
    changes: Number(values.changes),
    window: window > 0 ? window : Infinity,
    rate: Number(values.rate),
    timeoutMs: Number(values["timeout-ms"]),
  }
}

/** A promise and the function that keeps it. */
export function gate() {
  let open
  const opened = new Promise(resolve => (open = resolve))
  return { open, opened }
}

/**
 * One document's way through a run. Changes are numbered from 1; number 0 is the state before the run. The driver
 * reports what was sent, what the server acknowledged and how far each reader has come, and learns from the promises
 * when it may go on.
 */
export class Track {
  constructor(flags) {
    this.flags = flags
    this.sentAt = [0]
    this.acknowledged = 0
    this.progress = new Array(flags.readers).fill(0)
    this.latencies = []
    this.roomed = gate()
    this.delivered = gate()
    this.settled = gate()
    if (flags.readers === 0) this.delivered.open()
  }

  /** Sends every change with `send(number)`, never more than the window ahead of the acknowledgements, at the rate. */
  async pump(send, index) {
    const { rate, documents } = this.flags
    const start = performance.now()
    for (let number = 1; number <= this.flags.changes; number++) {
      // Documents take turns, so that changes come evenly and not in waves.
      const due = rate > 0 ? start + (((number - 1) * documents + index) * 1000) / rate : 0
      const early = due - performance.now()
      if (early > 0) await new Promise(resolve => setTimeout(resolve, early))
      while (number - this.acknowledged > this.flags.window) {
        this.roomed = gate()
        await this.roomed.opened
      }
      this.sentAt.push(performance.now())
      send(number)
      await new Promise(setImmediate)
    }
  }

  /** The server has shown the writer that it holds every change up to `number`. */
  acknowledge(number) {
    if (number <= this.acknowledged) return
    this.acknowledged = number
    this.roomed.open()
    if (number === this.flags.changes) this.settled.open()
  }

  /** A reader holds every change up to `number`. */
  reach(reader, number) {
    const before = this.progress[reader]
    if (number <= before) return
    const now = performance.now()
    for (let reached = before + 1; reached <= number; reached++) this.latencies.push(now - this.sentAt[reached])
    this.progress[reader] = number
    if (this.progress.every(count => count === this.flags.changes)) this.delivered.open()
  }
}

/**
 * Runs a load: `prepare(track, index)` connects one document's writer and readers, brings them to the state before the
 * run and resolves to the writer's `send(number)`. Prints the result and ends the process.
 */
export async function runLoad(flags, prepare) {
  const tracks = Array.from({ length: flags.documents }, () => new Track(flags))
  const fail = error => {
    const delivered = tracks.flatMap(track => track.progress).reduce((sum, count) => sum + count, 0)
    const acknowledged = tracks.reduce((sum, track) => sum + track.acknowledged, 0)
    emit({ error: error instanceof Error ? error.message : String(error), delivered, acknowledged })
    process.stdout.write("", () => process.exit(1))
  }
  process.on("uncaughtException", fail)
  process.on("unhandledRejection", fail)
  setTimeout(() => fail(`timeout after ${flags.timeoutMs} ms`), flags.timeoutMs)

  const sends = await Promise.all(tracks.map(prepare))
  const cpuBefore = process.cpuUsage()
  const serverBefore = serverCpu(flags.pid)
  const start = performance.now()
  const pumping = tracks.map((track, index) => track.pump(sends[index], index))
  await Promise.all(tracks.map(track => track.delivered.opened))
  const wall = performance.now() - start
  const cpu = process.cpuUsage(cpuBefore)
  await Promise.all(pumping)
  await Promise.all(tracks.map(track => track.settled.opened))
  const latencies = tracks.flatMap(track => track.latencies).sort((a, b) => a - b)
  emit({
    documents: flags.documents,
    readers: flags.readers,
    changes: flags.changes,
    delivered: latencies.length,
    wall_ms: round(wall),
    acknowledged_ms: round(performance.now() - start),
    latency_p50_ms: round(percentile(latencies, 0.5)),
    latency_p99_ms: round(percentile(latencies, 0.99)),
    driver_cpu_ms: round((cpu.user + cpu.system) / 1000),
    server_cpu_ms: round(serverCpu(flags.pid) - serverBefore),
  })
  process.stdout.write("", () => process.exit(0))
}

/** The processor time a process has used, user and system, in milliseconds: the kernel's own account, in steps of 10. */
function serverCpu(pid) {
  if (pid === undefined) return 0
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8")
  const fields = stat.slice(stat.lastIndexOf(") ") + 2).split(" ")
  return (Number(fields[11]) + Number(fields[12])) * 10
}

function percentile(sorted, share) {
  return sorted.length === 0 ? 0 : sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]
}

function round(milliseconds) {
  return Math.round(milliseconds * 10) / 10
}
