// TinyBase: a MergeableStore with its file persister, its WebSocket synchronizer and server. Documents are rows of one store.

import { existsSync, mkdirSync } from "node:fs"
import { join } from "node:path"
import { randomUUID } from "node:crypto"
import { createMergeableStore } from "tinybase/mergeable-store"
import { createFilePersister } from "tinybase/persisters/persister-file"
import { createWsSynchronizer } from "tinybase/synchronizers/synchronizer-ws-client"
import { WebSocket, WebSocketServer } from "ws"

const TABLE = "documents"

export const title = "TinyBase"
export const packages = ["tinybase"]
export const document = "a row of one MergeableStore, which is loaded, stored and synced as a whole"
export const durable = {
  client: "one JSON file, written whole when asked, not flushed to disk",
  server: "one JSON file for each path, written whole after a change, not flushed to disk; passed on before",
}

export const browser = {
  entry: `export * from "tinybase/mergeable-store"
    export { createWsSynchronizer } from "tinybase/synchronizers/synchronizer-ws-client"
    export { createIndexedDbPersister } from "tinybase/persisters/persister-indexed-db"`,
  files: [],
}

export const server = {
  async serve(dir) {
    const { createWsServer } = await import("tinybase/synchronizers/synchronizer-ws-server")
    mkdirSync(dir, { recursive: true })
    const sockets = new WebSocketServer({ host: "127.0.0.1", port: 0 })
    createWsServer(sockets, path => createFilePersister(createMergeableStore(), join(dir, `${path}.json`)))
    await new Promise(resolve => sockets.on("listening", resolve))
    return `ws://127.0.0.1:${sockets.address().port}`
  },
}

export async function open({ dir, url, group = randomUUID() }) {
  const store = createMergeableStore()
  if (dir) mkdirSync(dir, { recursive: true })
  const file = dir && join(dir, "store.json")
  const persister = file && createFilePersister(store, file)
  if (file && existsSync(file)) await persister.load()
  let synchronizer
  const start = async () => {
    synchronizer = await createWsSynchronizer(store, new WebSocket(`${url}/${group}`), 60)
    await synchronizer.startSync()
  }
  // Before anything is written: what is written then goes to the server in one message, and only then does a ping tell that it is there.
  if (url) await start()
  const docs = new Map()
  const keep = id => {
    const kept = {
      id,
      get: key => store.getCell(TABLE, id, key),
      set: (key, value) => void store.setCell(TABLE, id, key, value),
      watch: told => store.addRowListener(TABLE, id, () => told(key => store.getCell(TABLE, id, key))),
      save: () => Buffer.from(JSON.stringify(store.getMergeableContent())),
    }
    docs.set(id, kept)
    return kept
  }
  const durable = async () => {
    await persister?.save()
  }
  const create = fields => {
    const id = randomUUID()
    store.setRow(TABLE, id, fields)
    return keep(id)
  }
  return {
    group,
    create: async fields => {
      const kept = create(fields)
      await durable()
      return kept
    },
    createAll: async (count, make) => {
      const made = store.transaction(() => Array.from({ length: count }, (_, n) => create(make(n))))
      await durable()
      return made
    },
    here: async id => docs.get(id) ?? keep(id),
    find: async id => docs.get(id) ?? keep(id),
    durable,
    synced: () => ponged(synchronizer.getWebSocket()),
    close: async () => {
      await durable()
      await synchronizer?.destroy()
      await persister?.destroy()
    },
  }
}

/** Nothing is acknowledged; but the server answers a ping after everything that was sent before it. */
function ponged(socket) {
  return new Promise(resolve => {
    socket.once("pong", resolve)
    socket.ping()
  })
}
