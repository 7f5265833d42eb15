// Fields written one after the other, each waited for until it is stored: what a user's single edit takes.

import { fields } from "../lib/fields.mjs"

export default {
  title: "Write one: each waited for until it is stored",
  story: s => `${s.writes.toLocaleString("en")} writes to a document of ${s.fields.toLocaleString("en")} fields; each is waited for until it is in the store before the next.`,
  scale: { full: { writes: 500, fields: 100 }, quick: { writes: 20, fields: 100 } },
  metrics: [{ key: "write", title: "a write", unit: "µs" }],
  where: "client",
  async run({ peer, dir, scale, measure }) {
    const client = await peer.open({ dir })
    const doc = await client.create(fields(0, scale.fields))
    const took = await measure(async () => {
      for (let n = 0; n < scale.writes; n++) {
        await doc.set(`f${1 + (n % (scale.fields - 1))}`, n)
        await client.durable()
      }
    })
    await client.close()
    return { write: (took.wall * 1000) / scale.writes, cpu: took.cpu }
  },
}
