// The documents of all workloads: flat, with fields of short strings and numbers.

/** The fields of document number `n`. */
export function fields(n, count = 10) {
  const made = { title: `Document ${n}` }
  for (let at = 1; at < count; at++) made[`f${at}`] = at % 2 ? at * 1000 + n : `value ${at} of ${n}`
  return made
}

/** Reads a field of every document and waits for those that do not have the wanted value yet. */
export async function readAll(client, ids, key, wanted, milliseconds = 30_000) {
  const until = performance.now() + milliseconds
  let left = ids
  for (;;) {
    const missing = []
    for (const id of left) {
      const doc = await client.here(id)
      if (!doc || !wanted(await doc.get(key), id)) missing.push(id)
    }
    if (missing.length === 0) return
    if (performance.now() > until) throw new Error(`${missing.length} of ${ids.length} documents did not arrive`)
    left = missing
    await new Promise(resolve => setTimeout(resolve, 2))
  }
}
