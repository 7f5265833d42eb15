// The engine alone, no store: what its WASM, or its JavaScript, does with a field.

import { fields } from "../lib/fields.mjs"

export default {
  title: "Memory only: writes and reads without a store",
  story: s => `${s.writes.toLocaleString("en")} writes to a document of 100 fields that is nowhere but in memory, each a change of its own; then each field is read ${s.reads} times.`,
  scale: { full: { writes: 10_000, reads: 1_000 }, quick: { writes: 200, reads: 10 } },
  metrics: [
    { key: "write", title: "a write", unit: "µs" },
    { key: "read", title: "a read", unit: "ns" },
  ],
  async run({ peer, scale, measure }) {
    if (peer.needsStore) return { unsupported: "it always has a store" }
    const client = await peer.open({})
    const doc = await client.create(fields(0, 100))
    const writing = await measure(async () => {
      for (let n = 0; n < scale.writes; n++) doc.set(`f${1 + (n % 99)}`, n)
      await client.durable()
    })
    const reading = await measure(async () => {
      for (let n = 0; n < scale.reads; n++) for (let at = 1; at < 100; at++) doc.get(`f${at}`)
    })
    await client.close()
    return { write: (writing.wall * 1000) / scale.writes, read: (reading.wall * 1e6) / scale.reads / 99, cpu: writing.cpu + reading.cpu }
  },
}
