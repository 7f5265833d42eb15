// One automerge-repo client, driven by lines of JSON on standard input; every command gets one line of JSON as its answer.
// See README.md for the commands.
import { createInterface } from "node:readline"
import { Repo } from "@automerge/automerge-repo"
import * as Automerge from "@automerge/automerge"
import { WebSocketClientAdapter } from "@automerge/automerge-repo-network-websocket"
import { NodeFSStorageAdapter } from "@automerge/automerge-repo-storage-nodefs"
import { sign, ticket } from "./token.mjs"

// Standard output carries answers and nothing else.
for (const level of ["log", "info", "warn", "debug"]) console[level] = (...words) => console.error(...words)

const storageFlag = process.argv.indexOf("--storage")
const storage = storageFlag > 0 ? new NodeFSStorageAdapter(process.argv[storageFlag + 1]) : undefined
const repo = new Repo({ storage, network: [] })
const handles = new Map()
const ephemerals = new Map()
// What the adapter threw, which is how it reports that a server does not let it in.
const thrown = []
let adapter

const hex = bytes => Buffer.from(bytes).toString("hex")

/** From JSON to what a document holds. */
function decode(value) {
  if (value === null || typeof value !== "object") return value
  if (Array.isArray(value)) return value.map(decode)
  if ("$date" in value) return new Date(value.$date)
  if ("$bytes" in value) return new Uint8Array(Buffer.from(value.$bytes, "hex"))
  if ("$counter" in value) return new Automerge.Counter(value.$counter)
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, decode(inner)]))
}

/** From what a document holds to JSON. */
function encode(value) {
  if (value === null || typeof value !== "object") return value
  if (value instanceof Date) return { $date: value.getTime() }
  if (value instanceof Uint8Array) return { $bytes: hex(value) }
  if (value instanceof Automerge.Counter) return value.value
  // A string that is a register and not a text: what Rust's `put` makes.
  if (Automerge.isImmutableString(value)) return value.toString()
  if (Array.isArray(value)) return value.map(encode)
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, encode(inner)]))
}

function parentOf(doc, path) {
  let parent = doc
  for (const key of path.slice(0, -1)) parent = parent[key]
  return [parent, path.at(-1)]
}

function apply(doc, edit) {
  const [parent, key] = parentOf(doc, edit.path)
  switch (edit.do) {
    case "set": parent[key] = decode(edit.value); break
    case "delete": delete parent[key]; break
    case "increment": parent[key].increment(edit.by); break
    case "splice": Automerge.splice(doc, edit.path, edit.index, edit.del, edit.text); break
    case "insert": parent[key].splice(edit.index, 0, decode(edit.value)); break
    case "remove": parent[key].splice(edit.index, 1); break
    default: throw new Error(`no such edit: ${edit.do}`)
  }
}

function remember(handle) {
  if (!handles.has(handle.url)) {
    handles.set(handle.url, handle)
    ephemerals.set(handle.url, [])
    handle.on("ephemeral-message", ({ senderId, message }) => ephemerals.get(handle.url).push({ sender: senderId, message }))
  }
  return handle
}

const rawHeads = handle => (handle.isReady() ? Automerge.getHeads(handle.doc()).sort() : [])

async function until(timeout, check) {
  const end = Date.now() + timeout
  for (;;) {
    const found = check()
    if (found !== undefined) return found
    if (Date.now() > end) throw new Error("timeout")
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}

const commands = {
  async connect({ url, timeout_ms = 20_000 }) {
    adapter = new WebSocketClientAdapter(url, 250)
    repo.networkSubsystem.addNetworkAdapter(adapter)
    await until(timeout_ms, () => (repo.peers.length > 0 ? true : undefined))
    return { peer: repo.networkSubsystem.peerId }
  },
  async peers() {
    return { count: repo.peers.length, thrown: thrown.splice(0) }
  },
  async ticket({ relay, secret, claims }) {
    return ticket(relay, sign(secret, claims))
  },
  async disconnect() {
    repo.networkSubsystem.removeNetworkAdapter(adapter)
    return {}
  },
  async create({ value }) {
    const handle = remember(repo.create(decode(value ?? {})))
    return { url: handle.url }
  },
  // A patient find takes "unavailable" for "not yet": whoever has the document may only just be telling the server.
  async find({ url, timeout_ms = 10_000, patient = false }) {
    const progress = repo.findWithProgress(url)
    const state = () => {
      if (progress.handle?.isReady()) return "ready"
      const now = progress.peek ? progress.peek() : progress
      if (patient && now.state === "unavailable") return undefined
      return ["ready", "unavailable", "failed"].includes(now.state) ? now.state : undefined
    }
    let found
    try {
      found = await until(timeout_ms, state)
    } catch {
      return { state: "timeout" }
    }
    remember(progress.handle)
    return { state: found }
  },
  async change({ url, edits }) {
    handles.get(url).change(doc => edits.forEach(edit => apply(doc, edit)))
    return { heads: rawHeads(handles.get(url)) }
  },
  async get({ url }) {
    return { value: encode(handles.get(url).doc()) }
  },
  async heads({ url }) {
    return { heads: rawHeads(handles.get(url)) }
  },
  async waitHeads({ url, heads, timeout_ms = 20_000 }) {
    const wanted = JSON.stringify([...heads].sort())
    const handle = handles.get(url)
    try {
      await until(timeout_ms, () => (JSON.stringify(rawHeads(handle)) === wanted ? true : undefined))
    } catch {
      throw new Error(`timeout: has ${JSON.stringify(rawHeads(handle))}, not ${wanted}`)
    }
    return {}
  },
  async broadcast({ url, message }) {
    handles.get(url).broadcast(message)
    return {}
  },
  async ephemerals({ url, count = 0, timeout_ms = 10_000 }) {
    const list = ephemerals.get(url)
    await until(timeout_ms, () => (list.length >= count ? true : undefined)).catch(() => {})
    return { messages: list }
  },
  async quit() {
    setTimeout(() => process.exit(0), 0)
    return {}
  },
}

const lines = createInterface({ input: process.stdin })
lines.on("close", () => process.exit(0))
lines.on("line", async line => {
  const { id, op, ...args } = JSON.parse(line)
  try {
    if (!(op in commands)) throw new Error(`no such command: ${op}`)
    process.stdout.write(JSON.stringify({ id, ok: true, ...(await commands[op](args)) }) + "\n")
  } catch (error) {
    process.stdout.write(JSON.stringify({ id, ok: false, error: String(error?.message ?? error) }) + "\n")
  }
})
process.on("uncaughtException", error => {
  thrown.push(String(error?.message ?? error))
  console.error("uncaught", error)
})
process.on("unhandledRejection", error => console.error("unhandled", error))
