// A client of the automerge-repo protocol: what it is told to do by the steps of a session, and the rules that hold in all of them.
import { Client, Failure } from "./client.mjs"
import { decode, encode } from "./classic.mjs"
import { decodeSync, encodeSync, SyncPeer } from "./sync.mjs"
import { hex, unhex } from "./bytes.mjs"

export class ClassicClient extends Client {
  constructor(name, world) {
    super(name, world, null)
    this.id = world.variables.get(name)
    this.server = null
    this.documents = new Map()
    /** Documents that this side spoke of: of others a relay says nothing. */
    this.spoken = new Set()
    this.unasked = []
    this.level = 0
    this.between = ["remote-heads-changed", "remote-subscription-change"]
  }

  /** Takes in a message. One about a document that the client has open is worked on at once, and not shown to the session. */
  read(bytes) {
    const message = decode(bytes, { takesAnyDocument: true })
    this.#check(message)
    // A server that announces what others brought is none that keeps silent, and one session asks for that; the others go on.
    if (message.documentId !== undefined && !this.spoken.has(message.documentId)) {
      this.unasked.push(message)
      return null
    }
    const peer = this.documents.get(message.documentId)
    if (peer && message.type === "doc-unavailable") peer.isUnavailable = true
    if (!peer || (message.type !== "sync" && message.type !== "request")) return message
    const answer = peer.receive(decodeSync(unhex(message.data)))
    if (answer) this.sync("sync", message.documentId, answer)
    return null
  }

  /** What holds of every message of a server, whatever was asked. */
  #check(message) {
    const { type, senderId, targetId } = message
    if (!this.hasHeard && type !== "peer" && type !== "error") throw new Failure(`${type} comes first, and not peer`)
    this.hasHeard = true
    if (type === "join" || type === "leave") throw new Failure(`a server does not send ${type}`)
    if (type === "error") {
      if (targetId !== undefined && this.joined && targetId !== this.id) throw new Failure(`targetId ${targetId} is another peer`)
      return
    }
    if (targetId !== this.id) throw new Failure(`${type} has the targetId ${targetId} and not ${this.id}, exactly as it came`)
    if (type === "ephemeral") {
      if (senderId === this.id) throw new Failure("an ephemeral message comes back to its author")
    } else {
      this.server ??= senderId
      if (senderId !== this.server) throw new Failure(`${type} has the senderId ${senderId}, and the handshake had ${this.server}`)
    }
    if (type === "rejoin-delete" && this.level === 0) throw new Failure("rejoin-delete to a peer that did not say rejoin")
    if (type === "sync" || type === "request") decodeSync(unhex(message.data))
  }

  view(message) {
    if ((message.type !== "sync" && message.type !== "request") || typeof message.data !== "string") return message
    return { ...message, data: decodeSync(unhex(message.data)) }
  }

  /** Sends a message by its fields. `senderId` and `targetId` are filled in; `data` may be a sync message by its fields. */
  say(fields) {
    const message = { senderId: this.id, ...fields }
    if (!("targetId" in message) && !["join", "leave"].includes(message.type) && this.server !== null) message.targetId = this.server
    if (typeof message.data === "object" && message.data !== null) message.data = hex(encodeSync(message.data))
    if (message.type === "join") this.level = message.peerMetadata?.rejoin ?? 0
    if (message.documentId !== undefined) this.spoken.add(message.documentId)
    if (message.type === "join") this.joined = true
    this.send(encode(message))
  }

  async join({ metadata = { isEphemeral: true } }) {
    this.say({ type: "join", peerMetadata: metadata, supportedProtocolVersions: ["1"] })
    const peer = await this.expect({ type: "peer", selectedProtocolVersion: "1" })
    this.world.variables.set(`${this.name}.server`, peer.senderId)
    this.world.variables.set(`${this.name}.server-store`, peer.peerMetadata.storageId ?? null)
  }

  /** Takes part in a document from now on, with these changes in hand. */
  open(documentId, chunks) {
    const peer = new SyncPeer()
    chunks.forEach(chunk => peer.add(chunk))
    this.documents.set(documentId, peer)
    this.sync(chunks.length === 0 ? "request" : "sync", documentId, peer.next())
  }

  /** Adds changes to a document that is open, and sends them. */
  write(documentId, chunks) {
    const peer = this.#peer(documentId)
    chunks.forEach(chunk => peer.add(chunk))
    this.sync("sync", documentId, peer.next())
  }

  sync(type, documentId, message) {
    this.say({ type, documentId, data: message })
  }

  #peer(documentId) {
    const peer = this.documents.get(documentId)
    if (!peer) throw new Error(`${this.name} has not opened ${documentId}`)
    return peer
  }

  async untilHas(documentId, hashes) {
    const peer = this.#peer(documentId)
    await this.until(`the changes ${hashes.map(hash => hash.slice(0, 8)).join(", ")}`, () => peer.has(hashes))
  }

  async untilServerHas(documentId, hashes) {
    const peer = this.#peer(documentId)
    const below = new SyncPeer()
    below.changes = peer.changes
    await this.until("the server to show that it has all", () => {
      const heads = peer.theirHeads
      if (heads === null || !heads.every(hash => peer.changes.has(hash))) return false
      const found = new Set(), open = [...heads]
      while (open.length > 0) {
        const hash = open.pop()
        if (found.has(hash)) continue
        found.add(hash)
        open.push(...peer.changes.get(hash).deps)
      }
      return hashes.every(hash => found.has(hash))
    })
  }

  /** Listens for a while, and fails if the server speaks of this document unasked. */
  async silence(documentId, milliseconds) {
    await new Promise(resolve => setTimeout(resolve, milliseconds))
    const found = this.unasked.find(message => message.documentId === documentId)
    if (found) throw new Failure(`${this.name} got a ${found.type} about a document that it has not spoken of`)
  }

  async untilUnavailable(documentId) {
    const peer = this.#peer(documentId)
    await this.until("doc-unavailable", () => peer.isUnavailable)
  }
}

/** What the steps of a session mean. Each takes the world and the step, with its variables filled in. */
export const STEPS = {
  connect: async (world, { who }) => {
    await world.client(who, ClassicClient).connect()
  },
  join: async (world, step) => {
    const client = world.client(step.who, ClassicClient)
    if (!client.socket) await client.connect()
    await client.join(step)
  },
  send: (world, { who, message, hex: bytes, text, zeros }) => {
    const client = world.client(who)
    if (message !== undefined) client.say(message)
    else client.send(text ?? (zeros === undefined ? unhex(bytes) : Buffer.alloc(zeros)))
  },
  open: (world, { who, document, with: changes = [] }) => world.client(who).open(document, world.chunks(changes)),
  write: (world, { who, document, changes }) => world.client(who).write(document, world.chunks(changes)),
  has: (world, { who, document, changes }) => world.client(who).untilHas(document, world.hashes(changes)),
  server_has: (world, { who, document, changes }) => world.client(who).untilServerHas(document, world.hashes(changes)),
  silence: (world, { who, document, milliseconds = 300 }) => world.client(who).silence(document, milliseconds),
  unavailable: (world, { who, document }) => world.client(who).untilUnavailable(document),
}
