// Writes material.json anew: changes made by Automerge itself, with fixed actors and times. Needs `npm ci` in tests/interop; whoever
// only runs the kit does not need it.
import { createRequire } from "node:module"
import { writeFileSync } from "node:fs"
import { deflateRawSync } from "node:zlib"
import { changeOf, leb } from "./lib/sync.mjs"
import { hex, sha256 } from "./lib/bytes.mjs"

const Automerge = createRequire(new URL("../interop/package.json", import.meta.url))("@automerge/automerge")

const ALICE = "a11ce000000000000000000000000000", BOB = "b0b00000000000000000000000000000"
const changes = {}

/** Makes a change at a fixed time on a copy of a document, and keeps it under a name. */
function change(name, note, actor, docs, edit) {
  const start = docs.reduce((merged, doc) => Automerge.merge(merged, doc), Automerge.init(actor))
  const next = Automerge.change(start, { time: 1_700_000_000 }, edit)
  keep(name, note, Automerge.getLastLocalChange(next))
  return next
}

function keep(name, note, bytes) {
  const chunk = hex(bytes)
  changes[name] = { note, ...changeOf(chunk), hex: chunk }
}

const a1 = change("a1", "alice's first: sets title to \"one\"", ALICE, [], doc => { doc.title = "one" })
const a2 = change("a2", "alice's second, on a1: sets title to \"two\"", ALICE, [a1], doc => { doc.title = "two" })
change("a3", "alice's third, on a2: sets title to \"three\"", ALICE, [a2], doc => { doc.title = "three" })
const b1 = change("b1", "bob's first, on a1 and beside a2: sets count to 7", BOB, [a1], doc => { doc.count = 7 })
change("b2", "bob's second, on a2 and b1: sets count to 8", BOB, [a2, b1], doc => { doc.count = 8 })
change("other1", "another document's first, by bob: sets name to \"other\"", BOB, [], doc => { doc.name = "other" })
const text = "all work and no play ".repeat(100).slice(0, 2_000)
change("long1", "a document's first, by alice: a text of 2,000 characters", ALICE, [], doc => { doc.text = text })
keep("packed1", "long1 compressed: the same change in a chunk of type 2", compressed(Buffer.from(changes.long1.hex, "hex")))

/** The same change as a chunk of type 2. */
function compressed(chunk) {
  const start = chunk.indexOf(leb(chunk.length - 11), 9) + 2
  const body = deflateRawSync(chunk.subarray(start))
  return Buffer.concat([chunk.subarray(0, 8), Buffer.from([2]), leb(body.length), body])
}

// What no honest peer sends.
const damaged = Buffer.from(changes.a1.hex, "hex")
damaged[damaged.length - 1] ^= 1
const bad = {
  damaged: { note: "a1 with its last bit turned: its checksum is wrong", hex: hex(damaged) },
  nonsense: { note: "10 bytes that are no chunk", hex: hex(Buffer.from("no chunk!!")) },
}
const unknown = hex(sha256(Buffer.from("a hash of nothing")))
writeFileSync(new URL("material.json", import.meta.url), JSON.stringify({ changes, bad, unknown }, null, 2) + "\n")
