// What the two peers share that are made of Yjs: documents with one map of fields, and their store in y-leveldb.

import { randomUUID } from "node:crypto"
import * as Y from "yjs"

/** A client over a store (or none); `connect(id, ydoc)` joins a room and returns how to wait until it is in sync. */
export function makeClient({ store, group, connect }) {
  const docs = new Map()
  const writing = new Set()
  const keep = (id, ydoc, isNew) => {
    const fields = ydoc.getMap("fields")
    if (store) {
      const file = update => {
        const written = store.storeUpdate(id, update)
        writing.add(written)
        written.then(() => writing.delete(written))
      }
      if (isNew) file(Y.encodeStateAsUpdate(ydoc))
      ydoc.on("update", file)
    }
    const kept = {
      id,
      get: key => fields.get(key),
      set: (key, value) => void fields.set(key, value),
      watch: told => fields.observe(event => event.transaction.local || told(key => fields.get(key))),
      save: () => Y.encodeStateAsUpdate(ydoc),
      room: connect?.(id, ydoc),
    }
    docs.set(id, kept)
    return kept
  }
  const create = fields => {
    const ydoc = new Y.Doc()
    const map = ydoc.getMap("fields")
    ydoc.transact(() => {
      for (const [key, value] of Object.entries(fields)) map.set(key, value)
    })
    return keep(randomUUID(), ydoc, true)
  }
  const here = async id => docs.get(id) ?? keep(id, store ? await store.getYDoc(id) : new Y.Doc(), false)
  const durable = async () => {
    await Promise.all(writing)
  }
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
      await kept.room.synced()
      return kept
    },
    durable,
    synced: async ids => {
      const all = await Promise.all(ids.map(here))
      await Promise.all(all.map(({ room }) => room.synced()))
    },
  }
}
