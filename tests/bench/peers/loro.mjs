// loro-crdt with loro-websocket, its protocol's client and SimpleServer. It has no store: the benchmark writes a file for each document.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { randomUUID } from "node:crypto"
import { LoroDoc } from "loro-crdt"
import { LoroWebsocketClient } from "loro-websocket"
import { LoroAdaptor } from "loro-adaptors/loro"
import { WebSocket } from "ws"

export const title = "Loro"
export const packages = ["loro-crdt", "loro-websocket", "loro-adaptors"]
export const document = "a LoroDoc, a room; all of a client share one socket"
export const durable = {
  client: "a file for each document, written whole by the benchmark when asked, not flushed",
  server: "a file for each document once a minute (SimpleServer's hooks and default); acknowledged and passed on before",
}

export const browser = {
  entry: `export * from "loro-crdt"
    export { LoroWebsocketClient } from "loro-websocket"
    export { LoroAdaptor } from "loro-adaptors/loro"`,
  files: ["loro-crdt/web/loro_wasm_bg.wasm"],
}

export const server = {
  async serve(dir, port) {
    const { SimpleServer } = await import("loro-websocket/server")
    mkdirSync(dir, { recursive: true })
    const server = new SimpleServer({
      host: "127.0.0.1",
      port,
      onLoadDocument: room => readFile(join(dir, room)).catch(() => null),
      onSaveDocument: (room, _crdt, data) => writeFile(join(dir, room), data),
    })
    await server.start()
    return `ws://127.0.0.1:${port}`
  },
}

export async function open({ dir, url, group = randomUUID() }) {
  globalThis.WebSocket ??= WebSocket
  if (dir) mkdirSync(dir, { recursive: true })
  const client = url ? new LoroWebsocketClient({ url, disablePing: true }) : undefined
  await client?.waitConnected()
  const docs = new Map()
  const dirty = new Set()
  const keep = (id, doc, isNew) => {
    const fields = doc.getMap("fields")
    const kept = {
      id,
      get: key => fields.get(key),
      set: (key, value) => {
        fields.set(key, value)
        doc.commit()
        dirty.add(kept)
      },
      watch: told => doc.subscribe(event => event.by === "import" && told(key => fields.get(key))),
      save: () => doc.export({ mode: "snapshot" }),
      room: client?.join({ roomId: `${group}-${id}`, crdtAdaptor: new LoroAdaptor(doc) }),
    }
    doc.subscribe(() => dirty.add(kept))
    if (isNew) dirty.add(kept)
    docs.set(id, kept)
    return kept
  }
  const create = fields => {
    const doc = new LoroDoc()
    const map = doc.getMap("fields")
    for (const [key, value] of Object.entries(fields)) map.set(key, value)
    doc.commit()
    return keep(randomUUID(), doc, true)
  }
  const here = async id => {
    if (docs.has(id)) return docs.get(id)
    const doc = new LoroDoc()
    if (dir) {
      try {
        doc.import(readFileSync(join(dir, id)))
      } catch (error) {
        if (error.code !== "ENOENT") throw error
      }
    }
    return keep(id, doc, false)
  }
  const durable = async () => {
    if (dir) for (const kept of dirty) writeFileSync(join(dir, kept.id), kept.save())
    dirty.clear()
  }
  const reached = async ({ room }) => (await room).waitForReachingServerVersion()
  return {
    group,
    create: async fields => {
      const kept = create(fields)
      await durable()
      return kept
    },
    createAll: async (count, make) => {
      const made = Array.from({ length: count }, (_, n) => create(make(n)))
      await durable()
      return made
    },
    here,
    find: async id => {
      const kept = await here(id)
      await reached(kept)
      return kept
    },
    durable,
    synced: async ids => {
      const all = await Promise.all(ids.map(here))
      await Promise.all(all.map(reached))
      // A ping is answered after everything that was sent before it.
      await client.ping(60_000)
    },
    close: async () => {
      await durable()
      client?.destroy()
    },
  }
}

