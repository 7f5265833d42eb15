// An application starts: its library is loaded, its store opened, a document read; then a field of every document.

import { fields, readAll } from "../lib/fields.mjs"

export default {
  title: "Open: start with a full store",
  story: s => `A fresh process loads the library and opens a store of ${s.documents.toLocaleString("en")} documents of 10 fields: until a field of one document is read, and until one of each is.`,
  scale: { full: { documents: 1_000 }, quick: { documents: 50 } },
  metrics: [
    { key: "first", title: "first document", unit: "ms" },
    { key: "all", title: "every document", unit: "ms" },
  ],
  loads: true,
  async prepare({ load, dir, scale }) {
    const peer = await load()
    const client = await peer.open({ dir: `${dir}/store` })
    const docs = await client.createAll(scale.documents, n => fields(n))
    await client.close()
    return { group: client.group, ids: docs.map(({ id }) => id) }
  },
  async run({ load, dir, measure, share }) {
    let client
    let first
    const began = performance.now()
    const took = await measure(async () => {
      client = await (await load()).open({ dir: `${dir}/store`, group: share.group })
      const doc = await client.here(share.ids[share.ids.length >> 1])
      if ((await doc.get("f1")) === undefined) throw new Error("the document has no content")
      first = performance.now() - began
      await readAll(client, share.ids, "f1", value => value !== undefined)
    })
    await client.close()
    return { first, all: took.wall, cpu: took.cpu }
  },
}
