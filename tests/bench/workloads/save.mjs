// A document with a history is made one block of bytes, to be sent or filed.

import { fields } from "../lib/fields.mjs"

export default {
  title: "Save: a document with its history as bytes",
  story: s => `A document of 100 fields after ${s.writes.toLocaleString("en")} writes is made bytes, ${s.saves} times.`,
  scale: { full: { writes: 5_000, saves: 10 }, quick: { writes: 100, saves: 2 } },
  metrics: [
    { key: "save", title: "a save", unit: "ms" },
    { key: "size", title: "bytes", unit: "kB" },
  ],
  async run({ peer, dir, scale, measure }) {
    const client = await peer.open({ dir })
    const doc = await client.create(fields(0, 100))
    if (!doc.save) return { unsupported: "it has no such bytes" }
    for (let n = 0; n < scale.writes; n++) doc.set(`f${1 + (n % 99)}`, n)
    await client.durable()
    let bytes
    const took = await measure(async () => {
      for (let n = 0; n < scale.saves; n++) {
        // What is kept of the last one would not be made again.
        doc.set("title", `Save ${n}`)
        bytes = await doc.save()
      }
      await client.durable()
    })
    await client.close()
    return { save: took.wall / scale.saves, size: bytes.length / 1000, cpu: took.cpu }
  },
}
