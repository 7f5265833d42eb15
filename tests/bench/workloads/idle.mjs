// Connections that say nothing: what the server's process keeps in memory for each.

import { fields } from "../lib/fields.mjs"
import { memoryOf } from "../lib/measure.mjs"

export default {
  title: "Idle connections: the server's memory",
  story: s =>
    `${s.clients} clients, each with a connection and a document of its own, of 10 fields, are in sync and then say nothing. Resident memory of the server's process, less what it was with ${s.before}.`,
  scale: { full: { clients: 100, before: 20 }, quick: { clients: 6, before: 2 } },
  metrics: [
    { key: "each", title: "a connection", unit: "kB" },
    { key: "total", title: "the whole process", unit: "MB" },
  ],
  server: true,
  async run({ peer, url, scale, measure, serverPid }) {
    const clients = []
    const come = async count => {
      for (let n = 0; n < count; n += 10) {
        await Promise.all(
          Array.from({ length: Math.min(10, count - n) }, async () => {
            const client = await peer.open({ url })
            clients.push(client)
            const doc = await client.create(fields(clients.length))
            await client.synced([doc.id])
            await client.push?.()
          }),
        )
      }
      await new Promise(resolve => setTimeout(resolve, scale.clients > 50 ? 2_000 : 200))
    }
    await come(scale.before)
    const before = memoryOf(serverPid)
    const took = await measure(() => come(scale.clients))
    const after = memoryOf(serverPid)
    return { each: (after - before) / scale.clients / 1000, total: after / 1e6, cpu: took.cpu, serverCpu: took.serverCpu }
  },
}
