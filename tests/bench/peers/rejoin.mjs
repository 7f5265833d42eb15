// Ours: the npm package in Node, and the relay's binary.

import { binary, packageDist, packageEntry } from "../lib/binaries.mjs"

export const title = "Rejoin"
export const packages = ["rejoin"]
export const document = "a document of a space"
export const durable = {
  client: "flushed to disk (fsync) before a write's promise resolves",
  server: "flushed to disk (fsync) before it is acknowledged or passed on",
}

/** What a browser downloads: the page's part, the worker, the engine. */
export const browser = {
  entry: `export { Repo, Counter, text } from "rejoin"`,
  alias: { rejoin: `${packageDist}index.js` },
  files: [`${packageDist}worker.js`, `${packageDist}rejoin.wasm`],
}

export const server = {
  command: (dir, port) => [
    binary("rejoin-relay", "REJOIN_RELAY"),
    // All clients of a workload come from one machine, some of them at once.
    ["serve", "--open", "--admin-enabled=false", "--limits-upgrades-per-second=0", "--data", dir, "--listen", `127.0.0.1:${port}`],
  ],
}

let opened = 0

export async function open({ dir, url, group }) {
  const { Repo } = await import(packageEntry)
  const name = `bench-${opened++}`
  const store = dir ? { name: "bench", directory: dir } : { name, storage: "memory" }
  const repo = await Repo.open({ ...store, ...(url && { relay: url }) })
  const space = repo.space(group)
  const docs = new Map()
  const writing = new Set()
  const keep = doc => {
    const kept = {
      id: doc.id,
      get: key => doc.value[key],
      set: (key, value) => {
        const written = doc.set(key, value)
        writing.add(written)
        written.then(() => writing.delete(written))
      },
      watch: told => doc.subscribe(({ value, origin }) => origin === "remote" && told(key => value[key])),
      save: () => doc.export(),
    }
    docs.set(doc.id, kept)
    return kept
  }
  return {
    group: space.id,
    create: async fields => keep(await space.create(fields)),
    createAll: async (count, make) => {
      const made = await Promise.all(Array.from({ length: count }, (_, n) => space.create(make(n))))
      return made.map(keep)
    },
    here: async id => {
      const doc = docs.get(id)
      if (doc) return doc
      const opened = await repo.open(id)
      return opened && keep(opened)
    },
    find: async id => {
      await space.follow("everything")
      return keep(await repo.find(id, { wait: 20_000 }))
    },
    durable: () => Promise.all(writing),
    synced: async () => {
      if ((await space.following()) !== "everything") await space.follow("everything")
      await repo.waitSynced(120_000)
    },
    close: () => repo.close(),
  }
}
