// PouchDB with its LevelDB adapter, and express-pouchdb as the CouchDB-compatible server.

import { mkdirSync } from "node:fs"
import { createRequire } from "node:module"
import { join } from "node:path"
import { randomUUID } from "node:crypto"

const require = createRequire(import.meta.url)

export const title = "PouchDB + express-pouchdb"
export const packages = ["pouchdb", "express-pouchdb", "express"]
export const document = "a document of one database"
export const durable = {
  client: "LevelDB, written when its promise resolves, not flushed to disk",
  server: "LevelDB, written before it is acknowledged or passed on, not flushed to disk",
}
/** The whole document is what a write sends; a database in memory would be another adapter's. */
export const needsStore = true

export const browser = {
  entry: `export { default } from "pouchdb/dist/pouchdb.min.js"`,
  files: [],
}

export const server = {
  async serve(dir) {
    mkdirSync(dir, { recursive: true })
    const express = require("express")
    const PouchDB = require("pouchdb").defaults({ prefix: `${dir}/` })
    const app = express()
    app.use(
      "/",
      require("express-pouchdb")(PouchDB, {
        mode: "minimumForPouchDB",
        inMemoryConfig: true,
        logPath: join(dir, "log.txt"),
      }),
    )
    const listening = await new Promise(resolve => {
      const server = app.listen(0, "127.0.0.1", () => resolve(server))
    })
    return `http://127.0.0.1:${listening.address().port}`
  },
}

export async function open({ dir, url, group = `g${randomUUID()}` }) {
  const PouchDB = require("pouchdb")
  PouchDB.setMaxListeners?.(0)
  if (dir) mkdirSync(dir, { recursive: true })
  const db = new PouchDB(join(dir ?? memory(), "db"))
  const remote = url ? new PouchDB(`${url}/${group}`) : undefined
  const lives = []
  const docs = new Map()
  const watched = new Map()
  const keep = id => {
    let last = Promise.resolve()
    let mine
    const kept = {
      id,
      get: async key => (await db.get(id))[key],
      // Every write is a new revision of the whole document, and names the one before: so one after the other.
      set: (key, value) =>
        (last = last.then(async () => {
          mine ??= await db.get(id)
          const doc = { ...mine, [key]: value }
          mine = { ...doc, _rev: (await db.put(doc)).rev }
        })),
      settled: () => last,
      watch: told => {
        watched.set(id, told)
        follow()
      },
      save: undefined,
    }
    docs.set(id, kept)
    return kept
  }
  let following = false
  const follow = () => {
    if (following) return
    following = true
    lives.push(db.replicate.from(remote, { live: true, retry: true }))
    lives.push(
      db.changes({ live: true, since: "now", include_docs: true }).on("change", ({ id, doc }) => watched.get(id)?.(key => doc[key])),
    )
  }
  return {
    group,
    create: async fields => {
      const id = randomUUID()
      await db.put({ _id: id, ...fields })
      return keep(id)
    },
    createAll: async (count, make) => {
      const made = Array.from({ length: count }, (_, n) => ({ _id: randomUUID(), ...make(n) }))
      await db.bulkDocs(made)
      return made.map(({ _id }) => keep(_id))
    },
    here: async id => docs.get(id) ?? keep(id),
    find: async id => {
      await db.replicate.from(remote)
      return docs.get(id) ?? keep(id)
    },
    durable: () => Promise.all([...docs.values()].map(({ settled }) => settled())),
    /** Sends what is written from now on without being asked. */
    push: () => lives.push(db.replicate.to(remote, { live: true, retry: true })),
    synced: async () => {
      await db.sync(remote)
    },
    close: async () => {
      for (const live of lives) live.cancel()
      await db.close()
      await remote?.close()
    },
  }
}

let memories = 0
const memory = () => {
  const dir = join(process.env.BENCH_DIR ?? "/tmp", `pouch-${process.pid}-${memories++}`)
  mkdirSync(dir, { recursive: true })
  return dir
}
