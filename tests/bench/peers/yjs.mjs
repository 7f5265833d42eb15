// Yjs with y-websocket and its server; y-leveldb on both sides, as that is its store in Node.

import { LeveldbPersistence } from "y-leveldb"
import { WebSocket } from "ws"
import { WebsocketProvider } from "y-websocket"
import * as Y from "yjs"
import * as encoding from "lib0/encoding"
import * as sync from "y-protocols/sync"
import { randomUUID } from "node:crypto"
import { makeClient } from "../lib/yjs.mjs"

export const title = "Yjs + y-websocket"
export const packages = ["yjs", "y-websocket", "@y/websocket-server", "y-leveldb"]
export const document = "a Y.Doc, a room and a socket of its own"
export const durable = {
  client: "y-leveldb, written when its promise resolves, not flushed to disk",
  server: "y-leveldb, written after it was passed on, not flushed to disk",
}

export const browser = {
  entry: `export * from "yjs"
    export { WebsocketProvider } from "y-websocket"
    export { IndexeddbPersistence } from "y-indexeddb"`,
  files: [],
}

export const server = {
  async serve(dir) {
    process.env.YPERSISTENCE = dir
    const { setupWSConnection } = await import("@y/websocket-server/utils")
    const { WebSocketServer } = await import("ws")
    const sockets = new WebSocketServer({ host: "127.0.0.1", port: 0 })
    sockets.on("connection", setupWSConnection)
    await new Promise(resolve => sockets.on("listening", resolve))
    return `ws://127.0.0.1:${sockets.address().port}`
  },
}

export async function open({ dir, url, group = randomUUID() }) {
  const store = dir ? new LeveldbPersistence(dir) : undefined
  const providers = []
  const connect = (id, ydoc) => {
    const provider = new WebsocketProvider(url, `${group}-${id}`, ydoc, { WebSocketPolyfill: WebSocket, disableBc: true })
    providers.push(provider)
    const first = new Promise(resolve => provider.once("sync", resolve))
    return { synced: () => first.then(() => answered(provider, ydoc)) }
  }
  const client = makeClient({ store, group, ...(url && { connect }) })
  return {
    ...client,
    close: async () => {
      await client.durable()
      for (const provider of providers) provider.destroy()
      await store?.destroy()
    },
  }
}

/** The protocol acknowledges nothing; but what is answered now was asked after everything that was sent before. */
function answered(provider, ydoc) {
  return new Promise(resolve => {
    const socket = provider.ws
    const hear = ({ data }) => {
      const bytes = new Uint8Array(data)
      if (bytes[0] !== 0 || bytes[1] !== sync.messageYjsSyncStep2) return
      socket.removeEventListener("message", hear)
      resolve()
    }
    socket.addEventListener("message", hear)
    const encoder = encoding.createEncoder()
    encoding.writeVarUint(encoder, 0)
    sync.writeSyncStep1(encoder, ydoc)
    socket.send(encoding.toUint8Array(encoder))
  })
}
