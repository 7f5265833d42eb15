// automerge-repo: its Repo with the WebSocket adapter and the file system's store on both sides.

import * as A from "@automerge/automerge"
import { Repo } from "@automerge/automerge-repo"
import { WebSocketClientAdapter, WebSocketServerAdapter } from "@automerge/automerge-repo-network-websocket"
import { NodeFSStorageAdapter } from "@automerge/automerge-repo-storage-nodefs"
import { WebSocketServer } from "ws"
import { randomUUID } from "node:crypto"
import { scalar, scalars, shown } from "./automerge.mjs"

export const title = "automerge-repo"
export const packages = [
  "@automerge/automerge-repo",
  "@automerge/automerge",
  "@automerge/automerge-repo-network-websocket",
  "@automerge/automerge-repo-storage-nodefs",
]
export const document = "a document, its id known beforehand (the protocol has no list)"
export const durable = {
  client: "files (nodefs), written when flush() returns, not flushed to disk",
  server: "files (nodefs), written 100 ms later at most, not flushed to disk; passed on before",
}

export const browser = {
  entry: `export * from "@automerge/automerge-repo/slim"
    export { WebSocketClientAdapter } from "@automerge/automerge-repo-network-websocket"
    export { IndexedDBStorageAdapter } from "@automerge/automerge-repo-storage-indexeddb"`,
  files: ["@automerge/automerge/automerge.wasm"],
}

export const server = {
  async serve(dir) {
    const sockets = new WebSocketServer({ host: "127.0.0.1", port: 0 })
    const storage = new NodeFSStorageAdapter(dir)
    new Repo({ storage, network: [new WebSocketServerAdapter(sockets)], sharePolicy: async () => false })
    await new Promise(resolve => sockets.on("listening", resolve))
    return `ws://127.0.0.1:${sockets.address().port}`
  },
}

export async function open({ dir, url, group = randomUUID() }) {
  const storage = dir ? new NodeFSStorageAdapter(dir) : undefined
  const theirs = new Map()
  const heard = new Set()
  const wake = () => {
    for (const resolve of heard) resolve()
    heard.clear()
  }
  const adapter = url ? new WebSocketClientAdapter(url) : undefined
  // A document that is asked for before there is a server is unavailable at once, or a second later.
  const connected = adapter && new Promise(resolve => adapter.once("peer-candidate", resolve))
  // The library does not say when a document is in sync: what the server says of its heads does.
  adapter?.on("message", message => {
    if (message.type !== "sync") return
    theirs.set(message.documentId, A.decodeSyncMessage(message.data).heads.sort().join())
    wake()
  })
  const repo = new Repo({ storage, network: adapter ? [adapter] : [], sharePolicy: async () => true })
  const docs = new Map()
  const keep = handle => {
    const kept = {
      id: handle.documentId,
      handle,
      get: key => shown(handle.doc()[key]),
      set: (key, value) => handle.change(draft => void (draft[key] = scalar(value))),
      watch: told => handle.on("change", ({ doc }) => told(key => shown(doc[key]))),
      save: () => A.save(handle.doc()),
    }
    docs.set(kept.id, kept)
    handle.on("heads-changed", wake)
    return kept
  }
  const here = async id => {
    if (docs.has(id)) return docs.get(id)
    await connected
    return keep(await repo.find(id))
  }
  const isSynced = ({ id, handle }) => theirs.get(id) === A.getHeads(handle.doc()).sort().join()
  const synced = async ids => {
    const all = await Promise.all(ids.map(here))
    let left = all.filter(kept => !isSynced(kept))
    while (left.length > 0) {
      await new Promise(resolve => heard.add(resolve))
      left = left.filter(kept => !isSynced(kept))
    }
  }
  const durable = async () => {
    if (storage) await repo.flush()
  }
  return {
    group,
    create: async fields => {
      const kept = keep(repo.create(scalars(fields)))
      await durable()
      return kept
    },
    createAll: async (count, make) => {
      const made = Array.from({ length: count }, (_, n) => keep(repo.create(scalars(make(n)))))
      await durable()
      return made
    },
    here,
    find: here,
    durable,
    synced,
    close: async () => {
      await durable()
      adapter?.disconnect()
    },
  }
}
