// Fields written as fast as they can be, one change each, and then waited for: a user who pastes, an import, a game.

import { fields } from "../lib/fields.mjs"

export default {
  title: "Write: fields in a row, then one wait until all are stored",
  story: s => `${s.writes.toLocaleString("en")} writes to a document of ${s.fields.toLocaleString("en")} fields, each a change of its own; then one wait until all are in the store.`,
  scale: { full: { writes: 10_000, fields: 100 }, quick: { writes: 200, fields: 100 } },
  metrics: [{ key: "write", title: "a write", unit: "µs" }],
  where: "client",
  seconds: 120,
  async run({ peer, dir, scale, measure }) {
    const client = await peer.open({ dir })
    const doc = await client.create(fields(0, scale.fields))
    const took = await measure(async () => {
      for (let n = 0; n < scale.writes; n++) doc.set(`f${1 + (n % (scale.fields - 1))}`, n)
      await client.durable()
    })
    await client.close()
    return { write: (took.wall * 1000) / scale.writes, cpu: took.cpu }
  },
}
