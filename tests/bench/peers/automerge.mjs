// The library alone: no server, and no store but a file for each document that the benchmark writes.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import * as A from "@automerge/automerge"
import { randomUUID } from "node:crypto"

export const title = "Automerge"
export const packages = ["@automerge/automerge"]
export const document = "a document"
export const durable = { client: "a file for each document, written whole by the benchmark when asked, not flushed" }

export const browser = {
  entry: `export * from "@automerge/automerge/slim"`,
  files: ["@automerge/automerge/automerge.wasm"],
}

/** A string that is written as a whole, as those of the other peers are; a plain one would be a text, at several times the cost. */
export const scalar = value => (typeof value === "string" ? new A.ImmutableString(value) : value)
export const scalars = fields => Object.fromEntries(Object.entries(fields).map(([key, value]) => [key, scalar(value)]))
export const shown = value => (A.isImmutableString(value) ? value.val : value)

export async function open({ dir, group = randomUUID() }) {
  const docs = new Map()
  const dirty = new Set()
  if (dir) mkdirSync(dir, { recursive: true })
  const keep = (id, doc) => {
    const kept = {
      id,
      get: key => shown(doc[key]),
      set: (key, value) => {
        doc = A.change(doc, draft => void (draft[key] = scalar(value)))
        dirty.add(kept)
      },
      save: () => A.save(doc),
    }
    docs.set(id, kept)
    return kept
  }
  const write = kept => dir && writeFileSync(join(dir, kept.id), kept.save())
  const create = fields => {
    const kept = keep(randomUUID(), A.from(scalars(fields)))
    write(kept)
    return kept
  }
  return {
    group,
    create: async fields => create(fields),
    createAll: async (count, make) => Array.from({ length: count }, (_, n) => create(make(n))),
    here: async id => docs.get(id) ?? keep(id, A.load(readFileSync(join(dir, id)))),
    durable: async () => {
      for (const kept of dirty) write(kept)
      dirty.clear()
    },
    close: async () => {},
  }
}
