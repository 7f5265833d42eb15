// Fields read from an open document, by the peer's own API.

import { fields } from "../lib/fields.mjs"

export default {
  title: "Read: fields of an open document",
  story: s => `The fields of an open document of ${s.fields.toLocaleString("en")} fields are read one by one for ${s.milliseconds} ms.`,
  scale: { full: { fields: 1_000, milliseconds: 500 }, quick: { fields: 100, milliseconds: 20 } },
  metrics: [{ key: "read", title: "a read", unit: "ns" }],
  async run({ peer, dir, scale, measure }) {
    const client = await peer.open({ dir })
    const doc = await client.create(fields(0, scale.fields))
    const keys = Array.from({ length: scale.fields - 1 }, (_, n) => `f${n + 1}`)
    let reads = 0
    const took = await measure(async () => {
      const until = performance.now() + scale.milliseconds
      do {
        for (const key of keys) {
          const value = doc.get(key)
          if (value instanceof Promise) await value
        }
        reads += keys.length
      } while (performance.now() < until)
    })
    await client.close()
    return { read: (took.wall * 1e6) / reads, cpu: took.cpu }
  },
}
