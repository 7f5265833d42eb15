// Hocuspocus: Yjs with a server that has users and stores, here its SQLite extension; y-leveldb at the client.

import { HocuspocusProvider, HocuspocusProviderWebsocket } from "@hocuspocus/provider"
import { LeveldbPersistence } from "y-leveldb"
import { WebSocket } from "ws"
import { join } from "node:path"
import { mkdirSync } from "node:fs"
import { randomUUID } from "node:crypto"
import { makeClient } from "../lib/yjs.mjs"

export const title = "Hocuspocus"
export const packages = ["@hocuspocus/server", "@hocuspocus/provider", "@hocuspocus/extension-sqlite", "sqlite3", "yjs"]
export const document = "a Y.Doc; all of a client share one socket"
export const durable = {
  client: "y-leveldb, written when its promise resolves, not flushed to disk",
  server: "SQLite, the whole document, 2 to 10 s after a change or when its last reader leaves; acknowledged and passed on before",
}

/** What does without a server is Yjs'. */
export const onlyWithServer = true

export const browser = {
  entry: `export * from "yjs"
    export { HocuspocusProvider, HocuspocusProviderWebsocket } from "@hocuspocus/provider"
    export { IndexeddbPersistence } from "y-indexeddb"`,
  files: [],
}

export const server = {
  async serve(dir) {
    const { Server } = await import("@hocuspocus/server")
    const { SQLite } = await import("@hocuspocus/extension-sqlite")
    mkdirSync(dir, { recursive: true })
    const server = new Server({
      address: "127.0.0.1",
      port: 0,
      quiet: true,
      extensions: [new SQLite({ database: join(dir, "hocuspocus.sqlite") })],
    })
    await server.listen()
    return `ws://127.0.0.1:${server.address.port}`
  },
}

export async function open({ dir, url, group = randomUUID() }) {
  const store = dir ? new LeveldbPersistence(dir) : undefined
  const websocketProvider = url ? new HocuspocusProviderWebsocket({ url, WebSocketPolyfill: WebSocket }) : undefined
  const providers = []
  const connect = (id, document) => {
    const provider = new HocuspocusProvider({ websocketProvider, name: `${group}-${id}`, document })
    provider.attach()
    providers.push(provider)
    return {
      // Not before the server has everything: `synced` becomes true when nothing is unacknowledged.
      synced: () =>
        new Promise(resolve => {
          const look = () => provider.isSynced && !provider.hasUnsyncedChanges && resolve()
          provider.on("synced", look)
          provider.on("unsyncedChanges", look)
          look()
        }),
    }
  }
  const client = makeClient({ store, group, ...(url && { connect }) })
  return {
    ...client,
    close: async () => {
      await client.durable()
      for (const provider of providers) provider.destroy()
      websocketProvider?.destroy()
      await store?.destroy()
    },
  }
}
