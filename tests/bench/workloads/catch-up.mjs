// A device was away while others wrote: it comes back and gets what it lacks.

import { fields, readAll } from "../lib/fields.mjs"

export default {
  title: "Catch-up: a device that was away",
  story: s =>
    `${s.documents.toLocaleString("en")} documents on the device and the server; while it was away, ${s.changed} of them were written ${s.writes} times each. Until all of that can be read and is in its store.`,
  scale: { full: { documents: 500, changed: 50, writes: 10 }, quick: { documents: 30, changed: 5, writes: 3 } },
  metrics: [
    { key: "time", title: "until all is there", unit: "ms" },
    { key: "bytes", title: "on the wire", unit: "kB" },
  ],
  where: "both",
  server: true,
  async prepare({ peer, dir, url, scale }) {
    const writer = await peer.open({ dir: `${dir}/writer`, url })
    const docs = await writer.createAll(scale.documents, n => fields(n))
    const ids = docs.map(({ id }) => id)
    await writer.synced(ids)
    const away = await peer.open({ dir: `${dir}/away`, url, group: writer.group })
    await away.synced(ids)
    await readAll(away, ids, "f1", value => value !== undefined)
    await away.durable()
    await away.close()
    const changed = docs.slice(0, scale.changed)
    for (let n = 1; n <= scale.writes; n++) for (const doc of changed) doc.set("f1", -n)
    await writer.durable()
    await writer.synced(ids)
    await writer.close()
    return { group: writer.group, ids, changed: changed.map(({ id }) => id) }
  },
  async run({ peer, dir, url, scale, measure, share }) {
    let client
    const took = await measure(async () => {
      client = await peer.open({ dir: `${dir}/away`, url, group: share.group })
      await client.synced(share.ids)
      await readAll(client, share.changed, "f1", value => value === -scale.writes)
      await client.durable()
    })
    await client.close()
    return { time: took.wall, bytes: (took.up + took.down) / 1000, cpu: took.cpu, serverCpu: took.serverCpu }
  },
}
