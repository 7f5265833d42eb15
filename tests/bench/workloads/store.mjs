// One field written over and over, as a cursor, a slider or a counter is: what is left on disk.

import { readdirSync, statSync } from "node:fs"
import { join } from "node:path"

export default {
  title: "Store: one field overwritten many times",
  story: s => `${s.writes.toLocaleString("en")} writes to one field of one document, waited for by the thousand; then the store is closed, and its files are counted.`,
  scale: { full: { writes: 50_000 }, quick: { writes: 500 } },
  metrics: [
    { key: "size", title: "on disk", unit: "kB" },
    { key: "time", title: "writing", unit: "ms" },
  ],
  where: "client",
  seconds: 150,
  rounds: 1,
  async run({ peer, dir, scale, measure }) {
    const store = join(dir, "store")
    const client = await peer.open({ dir: store })
    const doc = await client.create({ title: "Slider", at: 0 })
    const took = await measure(async () => {
      for (let n = 1; n <= scale.writes; n++) {
        doc.set("at", n)
        if (n % 1_000 === 0) await client.durable()
      }
      await client.durable()
      await client.close()
    })
    return { size: sizeOf(store) / 1000, time: took.wall, cpu: took.cpu }
  },
}

function sizeOf(path) {
  const stat = statSync(path)
  if (!stat.isDirectory()) return stat.size
  return readdirSync(path).reduce((sum, name) => sum + sizeOf(join(path, name)), 0)
}
