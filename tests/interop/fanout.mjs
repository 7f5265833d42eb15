// Load over the classic automerge-repo protocol, the same for every server: per document one writer and some readers,
// each on a socket of its own. The clock runs from the first change sent until every reader holds every change.
//
// Writers and readers keep a real Automerge document and a real sync state, and answer each sync message as
// automerge-repo does, but without its 100 ms debounce. With `--light` the readers keep no document: they read the
// chunk headers, check that no change is missing, and answer with the heads they would have. That is an honest sync
// message too, and it leaves the processor to the server under test.

import "./lines.mjs"
import * as A from "@automerge/automerge"
import { generateAutomergeUrl, parseAutomergeUrl } from "@automerge/automerge-repo"
import { Encoder } from "cbor-x"
import { WebSocket } from "ws"
import { gate, loadFlags, runLoad } from "./load.mjs"

const cbor = new Encoder({ tagUint8Array: false, useRecords: false })
const flags = loadFlags({ light: { type: "boolean", default: false } })
const EMPTY_BLOOM = new Uint8Array()
/** What a current peer says of itself; a server that reads it may send several changes as one run of chunks. */
const CAPABILITIES = ["supports-sync-reset"]

/** A socket that has been through join and peer; `onSync(data)` is called for each sync message of its document. */
class Peer {
  #senderId = "peer-" + Math.random().toString(36).slice(2)
  #serverId

  static async connect(documentId, onSync) {
    const peer = new Peer()
    peer.documentId = documentId
    peer.socket = new WebSocket(flags.url, { perMessageDeflate: false })
    const joined = gate()
    peer.socket.on("open", () => {
      const peerMetadata = { isEphemeral: true }
      peer.#write({ type: "join", senderId: peer.#senderId, peerMetadata, supportedProtocolVersions: ["1"] })
    })
    peer.socket.on("message", bytes => peer.#receive(cbor.decode(bytes), joined, onSync))
    peer.socket.on("close", () => {
      throw new Error("the server closed a connection")
    })
    await joined.opened
    return peer
  }

  #receive(message, joined, onSync) {
    switch (message.type) {
      case "peer":
        this.#serverId = message.senderId
        joined.open()
        return
      case "sync":
      case "request":
        if (message.documentId === this.documentId) onSync(message.data, this)
        return
      case "error":
        throw new Error(`the server says: ${message.message}`)
      default:
    }
  }

  send(type, data) {
    this.#write({ type, senderId: this.#senderId, targetId: this.#serverId, documentId: this.documentId, data })
  }

  #write(message) {
    this.socket.send(cbor.encode(message))
  }
}

/** A document and its sync state with one server: what both writers and full readers hold. */
class Replica {
  #state = A.initSyncState()

  constructor(doc) {
    this.doc = doc
  }

  receive(data) {
    ;[this.doc, this.#state] = A.receiveSyncMessage(this.doc, this.#state, data)
  }

  reply(peer, type = "sync") {
    const [state, message] = A.generateSyncMessage(this.doc, this.#state)
    this.#state = state
    if (message !== null) peer.send(type, message)
  }
}

await runLoad(flags, async track => {
  const { documentId } = parseAutomergeUrl(generateAutomergeUrl())
  const history = makeHistory(flags.changes)

  const prepared = gate()
  const writer = new Replica(history.base)
  const writerPeer = await Peer.connect(documentId, (data, peer) => {
    const known = A.decodeSyncMessage(data).heads.map(head => history.numbers.get(head) ?? -1)
    writer.receive(data)
    writer.reply(peer)
    if (known.includes(0)) prepared.open()
    track.acknowledge(Math.max(-1, ...known))
  })
  writer.reply(writerPeer)
  await prepared.opened

  const connectReader = flags.light ? connectLightReader : connectFullReader
  await Promise.all(
    track.progress.map((_, reader) => connectReader(documentId, history, number => track.reach(reader, number))),
  )

  return number => {
    ;[writer.doc] = A.applyChanges(writer.doc, [history.changes[number]])
    writer.reply(writerPeer)
  }
})

/** Makes every change before the clock starts: one field set per change, so change `n` has the number `n`. */
function makeHistory(count) {
  const base = A.from({ fields: {} })
  const numbers = new Map([[A.getHeads(base)[0], 0]])
  const changes = [A.getLastLocalChange(base)]
  let doc = A.clone(base)
  for (let number = 1; number <= count; number++) {
    doc = A.change(doc, draft => {
      draft.fields[`f${number % 10}`] = number
    })
    numbers.set(A.getHeads(doc)[0], number)
    changes.push(A.getLastLocalChange(doc))
  }
  const hashes = [...numbers.keys()]
  const byChecksum = new Map(hashes.map((hash, number) => [hash.slice(0, 8), number]))
  return { base, changes, numbers, hashes, byChecksum }
}

/** Connects a reader that applies what it receives, and resolves when it holds the state before the run. */
async function connectFullReader(documentId, history, reach) {
  const prepared = gate()
  const replica = new Replica(A.init())
  const peer = await Peer.connect(documentId, (data, peer) => {
    replica.receive(data)
    replica.reply(peer)
    const number = history.numbers.get(A.getHeads(replica.doc)[0])
    if (number === 0) prepared.open()
    if (number !== undefined) reach(number)
  })
  replica.reply(peer, "request")
  await prepared.opened
}

/** Connects a reader that only counts what it receives, and resolves when it holds the state before the run. */
async function connectLightReader(documentId, history, reach) {
  const prepared = gate()
  const held = new Set()
  let number = -1
  let answered
  const answer = (peer, type) => {
    const heads = number < 0 ? [] : [history.hashes[number]]
    const have = [{ lastSync: heads, bloom: EMPTY_BLOOM }]
    peer.send(type, A.encodeSyncMessage({ heads, need: [], have, changes: [], supportedCapabilities: CAPABILITIES }))
    answered = number
  }
  const peer = await Peer.connect(documentId, (data, peer) => {
    const message = A.decodeSyncMessage(data)
    for (const bytes of message.changes) chunkNumbers(bytes, history).forEach(found => held.add(found))
    while (held.delete(number + 1)) number++
    if (number >= 0) prepared.open()
    if (number > 0) reach(number)
    if (number !== answered) answer(peer, "sync")
  })
  answer(peer, "request")
  await prepared.opened
}

/** Names the changes in a run of chunks by their checksums: the first four bytes of each change's hash. */
function chunkNumbers(bytes, history) {
  const numbers = []
  let offset = 0
  while (offset < bytes.length) {
    const checksum = Buffer.from(bytes.buffer, bytes.byteOffset + offset + 4, 4).toString("hex")
    const isDocument = bytes[offset + 8] === 0
    let length = 0
    let cursor = offset + 9
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[cursor++]
      length |= (byte & 0x7f) << shift
      if (byte < 0x80) break
    }
    if (isDocument) {
      // A server may send a new reader its compact form instead of the changes.
      const doc = A.load(bytes.subarray(offset, cursor + length))
      const last = history.numbers.get(A.getHeads(doc)[0]) ?? -1
      for (let number = 0; number <= last; number++) numbers.push(number)
    } else if (history.byChecksum.has(checksum)) {
      numbers.push(history.byChecksum.get(checksum))
    }
    offset = cursor + length
  }
  return numbers
}
