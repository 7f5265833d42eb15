// One writes, others look on: what each change that reaches a reader costs the server, and how long it is on its way.

import { fields } from "../lib/fields.mjs"
import { percentile } from "../lib/measure.mjs"

export default {
  title: "Fan-out: one writes, others read along",
  story: s =>
    `1 writer and ${s.readers} readers of one document, each with a connection of its own and nothing on disk; ${s.writes} writes of one field, ${s.rate} a second. A change has arrived when a reader's callback has seen it or a later one.`,
  scale: { full: { readers: 20, writes: 200, rate: 50 }, quick: { readers: 4, writes: 20, rate: 100 } },
  metrics: [
    { key: "server", title: "server's CPU, a delivery", unit: "µs" },
    { key: "middle", title: "latency, median", unit: "ms" },
    { key: "slow", title: "latency, 99 of 100", unit: "ms" },
    { key: "all", title: "all CPU, a delivery", unit: "µs" },
  ],
  where: "server",
  server: true,
  async run({ peer, url, scale, measure }) {
    const writer = await peer.open({ url })
    const doc = await writer.create(fields(0))
    await writer.synced([doc.id])
    await writer.push?.()
    const sent = []
    const latencies = []
    let arrived
    const all = new Promise(resolve => (arrived = resolve))
    const readers = await Promise.all(
      Array.from({ length: scale.readers }, async () => {
        const client = await peer.open({ url, group: writer.group })
        const theirs = await client.find(doc.id)
        let reached = 0
        theirs.watch(get => {
          const number = get("n") ?? 0
          for (const now = performance.now(); reached < number; reached++) latencies.push(now - sent[reached])
          if (latencies.length === scale.readers * scale.writes) arrived()
        })
        return client
      }),
    )
    // What connecting set going is over.
    await new Promise(resolve => setTimeout(resolve, 300))
    const took = await measure(async () => {
      const start = performance.now()
      for (let n = 1; n <= scale.writes; n++) {
        const early = start + (n * 1000) / scale.rate - performance.now()
        if (early > 0) await new Promise(resolve => setTimeout(resolve, early))
        sent.push(performance.now())
        doc.set("n", n)
      }
      const late = setTimeout(() => arrived(new Error(`${latencies.length} of ${scale.readers * scale.writes} arrived`)), 20_000)
      const error = await all
      clearTimeout(late)
      if (error) throw error
    })
    await Promise.all([writer, ...readers].map(client => client.close()))
    const deliveries = scale.readers * scale.writes
    return {
      server: (took.serverCpu * 1000) / deliveries,
      middle: percentile(latencies, 0.5),
      slow: percentile(latencies, 0.99),
      all: ((took.cpu + took.serverCpu) * 1000) / deliveries,
      cpu: took.cpu,
      serverCpu: took.serverCpu,
    }
  },
}
