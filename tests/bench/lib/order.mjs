// Which workloads and peers there are: every file of the two folders. Those named here come first, in this order.

import { readdirSync } from "node:fs"
import { fileURLToPath } from "node:url"

const WORKLOADS = ["write", "write-each", "read", "open", "save", "sync", "catch-up", "reconnect", "fan-out", "idle", "store", "wasm-size", "wasm-speed"]
const PEERS = ["rejoin", "automerge", "automerge-repo", "samod", "yjs", "hocuspocus", "loro", "pouchdb", "tinybase"]

export const workloadNames = () => ordered("../workloads", WORKLOADS)
export const peerNames = () => ordered("../peers", PEERS)

function ordered(folder, first) {
  const all = readdirSync(fileURLToPath(new URL(folder, import.meta.url)))
    .filter(name => name.endsWith(".mjs"))
    .map(name => name.slice(0, -4))
  return [...first.filter(name => all.includes(name)), ...all.filter(name => !first.includes(name)).sort()]
}
