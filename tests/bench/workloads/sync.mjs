// A new device: it has nothing, and fetches everything there is.

import { fields, readAll } from "../lib/fields.mjs"

export default {
  title: "First sync: a fresh device fetches everything",
  story: s => `${s.documents.toLocaleString("en")} documents of 10 fields on the server, none on the device: until a field of each can be read and all are in its store.`,
  scale: { full: { documents: 500 }, quick: { documents: 30 } },
  metrics: [
    { key: "time", title: "until all is there", unit: "ms" },
    { key: "bytes", title: "on the wire", unit: "kB" },
  ],
  where: "both",
  server: true,
  async prepare({ peer, dir, url, scale }) {
    const client = await peer.open({ dir: `${dir}/writer`, url })
    const docs = await client.createAll(scale.documents, n => fields(n))
    const ids = docs.map(({ id }) => id)
    await client.synced(ids)
    await client.close()
    return { group: client.group, ids }
  },
  async run({ peer, dir, url, measure, share }) {
    let client
    const took = await measure(async () => {
      client = await peer.open({ dir: `${dir}/fresh`, url, group: share.group })
      await client.synced(share.ids)
      await readAll(client, share.ids, "f1", value => value !== undefined)
      await client.durable()
    })
    await client.close()
    return { time: took.wall, bytes: (took.up + took.down) / 1000, cpu: took.cpu, serverCpu: took.serverCpu }
  },
}
