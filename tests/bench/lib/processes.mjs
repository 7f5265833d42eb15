// The processes of a cell: its server and its phases. Everything that is started here is ended here.

import { fork, spawn } from "node:child_process"
import { createServer } from "node:net"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"

const here = name => fileURLToPath(new URL(name, import.meta.url))

/** How long a server may take to start, in milliseconds. */
const START = 15_000

/** Starts a peer's server on a directory; resolves to its address, its process id and how to end it. */
export async function startServer(name, { server }, dir) {
  const port = await freePort()
  const [child, url] = server.command ? startBinary(server, dir, port) : startScript(name, dir, port)
  // What cannot be started never exits.
  const ended = new Promise(resolve => child.once("exit", resolve).once("error", resolve))
  const stop = async () => {
    child.kill("SIGKILL")
    await ended
  }
  const trouble = said(child)
  try {
    const failed = ended.then(how => Promise.reject(how instanceof Error ? how : new Error(`the server ended with ${how}: ${trouble()}`)))
    failed.catch(() => {})
    return { url: await within(START, Promise.race([url, failed]), "the server's start"), pid: child.pid, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

function startBinary(server, dir, port) {
  const child = spawn(...server.command(dir, port), { stdio: ["ignore", "pipe", "pipe"] })
  const url = new Promise(resolve => {
    createInterface({ input: child.stdout }).on("line", line => {
      const address = server.address ? server.address(line) : line.includes("listening") && `ws://127.0.0.1:${port}`
      if (address) resolve(address)
    })
  })
  return [child, url]
}

function startScript(peer, dir, port) {
  const env = { ...process.env, BENCH_SERVE: JSON.stringify({ peer, dir, port }) }
  const child = fork(here("serve.mjs"), { env, stdio: ["ignore", "ignore", "pipe", "ipc"] })
  return [child, new Promise(resolve => child.once("message", ({ url }) => resolve(url)))]
}

/** Runs one phase in a process of its own; rejects with a reason if it fails or is not done in time. */
export async function runPhase(cell, milliseconds) {
  const env = { ...process.env, BENCH_CELL: JSON.stringify(cell), BENCH_DIR: cell.dir }
  const execArgv = ["--expose-gc", "--no-warnings", "--max-old-space-size=6144"]
  const child = fork(here("cell.mjs"), { env, execArgv, stdio: ["ignore", "ignore", "pipe", "ipc"] })
  const trouble = said(child)
  const ended = new Promise(resolve => child.once("exit", (code, signal) => resolve(signal ?? code)))
  const told = new Promise(resolve => child.once("message", resolve))
  try {
    const died = ended.then(async code => {
      // The message may be on its way still.
      await new Promise(setImmediate)
      throw new Error(`its process ended with ${code}: ${trouble()}`)
    })
    died.catch(() => {})
    const message = await within(milliseconds, Promise.race([told, died]), `${cell.phase}`)
    if (process.env.BENCH_VERBOSE && message.stack) console.error(message.stack)
    if (message.error !== undefined) throw new Error(message.error)
    return message.result
  } finally {
    child.kill("SIGKILL")
    await ended
  }
}

/** What a child wrote on stderr, its last line: the reason, if it ends. */
function said(child) {
  let tail = ""
  child.stderr.on("data", chunk => {
    if (process.env.BENCH_VERBOSE) process.stderr.write(chunk)
    tail = (tail + chunk).slice(-2000)
  })
  return () => tail.split("\n").filter(line => /error|fail|cannot/i.test(line))[0]?.trim() ?? tail.trim().split("\n").at(-1)
}

async function within(milliseconds, promise, what) {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} was not done after ${Math.round(milliseconds / 1000)} s`)), milliseconds)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

async function freePort() {
  const server = createServer()
  await new Promise(resolve => server.listen(0, "127.0.0.1", resolve))
  const { port } = server.address()
  await new Promise(resolve => server.close(resolve))
  return port
}
