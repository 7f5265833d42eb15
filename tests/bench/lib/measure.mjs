// What a piece of work takes: time, processor time of this process and of the server's, bytes on the wire.

import { subscribe } from "node:diagnostics_channel"
import { readdirSync, readFileSync } from "node:fs"

const sockets = new Set()
let closed = { up: 0, down: 0 }

// Every socket that this process opens, whoever opens it: all peers' clients are JavaScript.
subscribe("net.client.socket", ({ socket }) => {
  sockets.add(socket)
  socket.once("close", () => {
    sockets.delete(socket)
    closed = { up: closed.up + socket.bytesWritten, down: closed.down + socket.bytesRead }
  })
})

/** How long the server may go on after the client is done, in milliseconds, and still have it counted. */
const TAIL = 200

/** Returns `measure(work)`, which resolves to what the work took; `serverPid` is undefined where there is no server. */
export function measurer(serverPid) {
  return async work => {
    globalThis.gc?.()
    const bytes = onTheWire()
    const server = serverPid ? cpuOf(serverPid) : 0
    const cpu = process.cpuUsage()
    const start = performance.now()
    const result = await work()
    const wall = performance.now() - start
    const { user, system } = process.cpuUsage(cpu)
    const after = onTheWire()
    if (serverPid) await new Promise(resolve => setTimeout(resolve, TAIL))
    return {
      result,
      wall,
      cpu: (user + system) / 1000,
      serverCpu: serverPid ? cpuOf(serverPid) - server : undefined,
      up: after.up - bytes.up,
      down: after.down - bytes.down,
    }
  }
}

function onTheWire() {
  const sum = { ...closed }
  for (const socket of sockets) {
    sum.up += socket.bytesWritten
    sum.down += socket.bytesRead
  }
  return sum
}

/**
 * Processor time of a process, its threads and its children, in milliseconds: the scheduler's account of what lives, in nanoseconds, and of
 * children that have ended the kernel's, in steps of 10 ms.
 */
export function cpuOf(pid) {
  let milliseconds = 0
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8")
    const fields = stat.slice(stat.lastIndexOf(") ") + 2).split(" ")
    milliseconds += (Number(fields[13]) + Number(fields[14])) * 10
    for (const task of readdirSync(`/proc/${pid}/task`)) {
      milliseconds += Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, "utf8").split(" ")[0]) / 1e6
      const children = readFileSync(`/proc/${pid}/task/${task}/children`, "utf8").trim()
      for (const child of children ? children.split(" ") : []) milliseconds += cpuOf(child)
    }
  } catch (error) {
    // It, or one of its threads, has ended meanwhile.
    if (error.code !== "ENOENT" && error.code !== "ESRCH") throw error
  }
  return milliseconds
}

/** Resident memory of a process, in bytes. */
export function memoryOf(pid) {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))[1]) * 1024
}

/** The middle one; of an even number the lower. */
export function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b)
  return sorted[Math.floor((sorted.length - 1) / 2)]
}

/** The smallest that `share` of all do not exceed. */
export function percentile(numbers, share) {
  const sorted = [...numbers].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]
}
