// The load of fanout.mjs over the y-websocket protocol: the same documents, readers and changes, with Yjs on both ends.
//
// The protocol has no acknowledgement. The server sends every update to all sockets of the room, its author's included,
// so the writer takes its own update coming back as one.

import "./lines.mjs"
import { randomUUID } from "node:crypto"
import * as decoding from "lib0/decoding"
import * as encoding from "lib0/encoding"
import { WebSocket } from "ws"
import * as sync from "y-protocols/sync"
import * as Y from "yjs"
import { gate, loadFlags, runLoad } from "./load.mjs"

const MESSAGE_SYNC = 0
// What a reader keeps is the same with `--light`: Yjs has no cheaper one.
const flags = loadFlags({ light: { type: "boolean", default: false } })

await runLoad(flags, async track => {
  const room = randomUUID()
  const history = makeHistory(flags.changes)
  const writerDoc = new Y.Doc()
  const writer = await connect(room, writerDoc, () => {}, decoder => {
    if (decoding.readVarUint(decoder) !== sync.messageYjsUpdate) return
    track.acknowledge(history.numbers.get(Buffer.from(decoding.readVarUint8Array(decoder)).toString("hex")) ?? -1)
  })
  await Promise.all(
    track.progress.map((_, reader) => connect(room, new Y.Doc(), number => track.reach(reader, number), () => {})),
  )
  return number => {
    Y.applyUpdate(writerDoc, history.updates[number])
    send(writer, encoder => sync.writeUpdate(encoder, history.updates[number]))
  }
})

/** Makes every update before the clock starts: one field set per update, so update `n` has the number `n`. */
function makeHistory(count) {
  const doc = new Y.Doc()
  const updates = [null]
  const numbers = new Map()
  doc.on("update", update => {
    numbers.set(Buffer.from(update).toString("hex"), updates.length)
    updates.push(update)
  })
  const fields = doc.getMap("fields")
  for (let number = 1; number <= count; number++) fields.set(`f${number % 10}`, number)
  return { updates, numbers }
}

/** Connects `doc` to a room, and resolves to the socket once the server has sent its state. */
async function connect(room, doc, reach, peek) {
  const socket = new WebSocket(`${flags.url}/${room}`, { perMessageDeflate: false })
  socket.binaryType = "arraybuffer"
  const prepared = gate()
  const fields = doc.getMap("fields")
  fields.observe(event => {
    for (const key of event.keysChanged) reach(fields.get(key))
  })
  socket.on("open", () => send(socket, encoder => sync.writeSyncStep1(encoder, doc)))
  socket.on("close", () => {
    throw new Error("the server closed a connection")
  })
  socket.on("message", message => {
    const bytes = new Uint8Array(message)
    const decoder = decoding.createDecoder(bytes)
    if (decoding.readVarUint(decoder) !== MESSAGE_SYNC) return
    peek(decoding.createDecoder(bytes.subarray(1)))
    const encoder = encoding.createEncoder()
    encoding.writeVarUint(encoder, MESSAGE_SYNC)
    const kind = sync.readSyncMessage(decoder, encoder, doc, socket)
    if (encoding.length(encoder) > 1) socket.send(encoding.toUint8Array(encoder))
    if (kind === sync.messageYjsSyncStep2) prepared.open()
  })
  await prepared.opened
  return socket
}

function send(socket, write) {
  const encoder = encoding.createEncoder()
  encoding.writeVarUint(encoder, MESSAGE_SYNC)
  write(encoder)
  socket.send(encoding.toUint8Array(encoder))
}
