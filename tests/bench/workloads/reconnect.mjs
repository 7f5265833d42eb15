// Many devices come back at once and nothing is new, as when a server was started again: what it costs to find that out.

import { fields, readAll } from "../lib/fields.mjs"

export default {
  title: "Reconnect: many devices, nothing new",
  story: s => `${s.clients} devices, each with the same ${s.documents} documents in its store, start and connect at once; until each knows that it has everything.`,
  scale: { full: { clients: 10, documents: 100 }, quick: { clients: 2, documents: 10 } },
  metrics: [
    { key: "time", title: "until all know", unit: "ms" },
    { key: "bytes", title: "on the wire, a device", unit: "kB" },
    { key: "server", title: "server's CPU, a device", unit: "ms" },
  ],
  where: "both",
  server: true,
  async prepare({ peer, dir, url, scale }) {
    const writer = await peer.open({ dir: `${dir}/writer`, url })
    const docs = await writer.createAll(scale.documents, n => fields(n))
    const ids = docs.map(({ id }) => id)
    await writer.synced(ids)
    await writer.close()
    for (let n = 0; n < scale.clients; n++) {
      const client = await peer.open({ dir: `${dir}/client-${n}`, url, group: writer.group })
      await client.synced(ids)
      await readAll(client, ids, "f1", value => value !== undefined)
      await client.durable()
      await client.close()
    }
    return { group: writer.group, ids }
  },
  async run({ peer, dir, url, scale, measure, share }) {
    const clients = []
    const took = await measure(() =>
      Promise.all(
        Array.from({ length: scale.clients }, async (_, n) => {
          const client = await peer.open({ dir: `${dir}/client-${n}`, url, group: share.group })
          clients.push(client)
          await client.synced(share.ids)
        }),
      ),
    )
    await Promise.all(clients.map(client => client.close()))
    return {
      time: took.wall,
      bytes: (took.up + took.down) / 1000 / scale.clients,
      server: took.serverCpu / scale.clients,
      cpu: took.cpu,
      serverCpu: took.serverCpu,
    }
  },
}
