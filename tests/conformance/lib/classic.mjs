// The messages of the automerge-repo protocol, version "1": from bytes to their meaning as JSON and back.
//
// The meaning of a message has its fields under their own names. Byte strings are lower-case hex, optional fields that are absent
// are left out or have their default (supportedProtocolVersions ["1"], isEphemeral false, add and remove []), unknown keys are gone.
import { BadMessage, fromBase58Check, hex, toBase58Check, unhex } from "./bytes.mjs"
import { decode as decodeCbor, encode as encodeCbor, Float, Tagged } from "./cbor.mjs"

const LIMITS = {
  peerId: 256,
  documentId: 256,
  storageId: 256,
  sessionId: 256,
  by: 256,
  versions: 16,
  versionBytes: 64,
  integer: 2 ** 53,
  ephemeralBytes: 1_048_576,
  gossipEntries: 256,
  gossipHeads: 4_096,
  errorBytes: 1_024,
  frameBytes: 33_554_432,
}

const invalid = text => new BadMessage("frame-invalid", text)

/** What a receiver does with each kind of bad message, by its code: `close` with a code, or none. */
export const CLOSE_CODES = {
  "frame-malformed": 1007,
  "frame-limit": 1009,
  "frame-invalid": 1002,
  "frame-unknown-type": null,
  "frame-document-id": null,
  "frame-head": null,
}

/**
 * Reads one binary WebSocket message. Throws `BadMessage`. With `takesAnyDocument` a document id that is no 16 bytes comes as it is:
 * a server may have to answer for one.
 */
export function decode(bytes, { takesAnyDocument = false } = {}) {
  if (bytes.length > LIMITS.frameBytes) throw new BadMessage("frame-limit", "message")
  const whole = decodeCbor(bytes)
  if (!(whole instanceof Map)) throw invalid("a message is a map")
  const fields = new Fields(whole, takesAnyDocument)
  const type = fields.need("type")
  if (typeof type !== "string") throw invalid("type")
  const shape = SHAPES[type]
  if (!shape) throw new BadMessage("frame-unknown-type", type)
  return shape(type, fields)
}

/** Writes a message from its meaning: definite lengths, the shortest headers, `type` first and `targetId` last. */
export function encode(meaning) {
  return encodeCbor(toMap(meaning))
}

class Fields {
  constructor(map, takesAnyDocument) {
    this.map = map
    this.takesAnyDocument = takesAnyDocument
  }

  get(name) {
    const value = this.map.get(name)
    return value === null ? undefined : value
  }

  need(name) {
    const value = this.get(name)
    if (value === undefined) throw invalid(`${name} is missing`)
    return value
  }

  text(name, limit = Infinity) {
    return text(this.need(name), name, limit)
  }

  sender() {
    return this.text("senderId", LIMITS.peerId)
  }

  about() {
    const senderId = this.sender()
    const targetId = this.text("targetId", LIMITS.peerId)
    const text = this.text("documentId", LIMITS.documentId)
    return { senderId, targetId, documentId: this.takesAnyDocument ? text : documentId(text) }
  }

  data(limit) {
    let value = this.need("data")
    if (value instanceof Tagged && value.tag === 64) value = value.value
    if (!(value instanceof Uint8Array)) throw invalid("data is no byte string")
    if (value.length > limit) throw new BadMessage("frame-limit", "data")
    if (value.length === 0) throw invalid("data is empty")
    return hex(value)
  }

  flag(name) {
    const value = this.get(name) ?? false
    if (typeof value !== "boolean") throw invalid(`${name} is no boolean`)
    return value
  }

  texts(name, entries, bytes) {
    const list = this.get(name)
    if (list === undefined) return undefined
    if (!Array.isArray(list)) throw invalid(`${name} is no array`)
    if (list.length > entries) throw new BadMessage("frame-limit", name)
    return list.map(item => text(item, name, bytes))
  }

  metadata() {
    const map = this.get("peerMetadata") ?? this.get("metadata")
    const metadata = { isEphemeral: false }
    if (map === undefined) return metadata
    if (!(map instanceof Map)) throw invalid("peerMetadata is no map")
    const inner = new Fields(map)
    if (inner.get("storageId") !== undefined) metadata.storageId = inner.text("storageId", LIMITS.storageId)
    metadata.isEphemeral = inner.flag("isEphemeral")
    if (inner.get("rejoin") !== undefined) {
      const rejoin = wholeNumber(inner.get("rejoin"), "rejoin")
      if (rejoin > 0) metadata.rejoin = rejoin
    }
    const epoch = inner.get("epoch")
    if (metadata.rejoin && epoch instanceof Uint8Array && epoch.length === 16) metadata.epoch = hex(epoch)
    return metadata
  }
}

function text(value, name, limit) {
  if (typeof value !== "string") throw invalid(`${name} is no text`)
  if (Buffer.byteLength(value) > limit) throw new BadMessage("frame-limit", name)
  return value
}

function wholeNumber(value, name) {
  const number = typeof value === "bigint" ? Number(value) : value
  if (typeof number !== "number") throw invalid(`${name} is no number`)
  if (!(number >= 0 && number <= LIMITS.integer)) throw invalid(`${name} is no whole number from 0 to 2^53`)
  return Math.trunc(number)
}

/** A document id as its canonical text: bs58check, a hyphenated UUID and a whole URL are read. */
export function documentId(from) {
  const uuid = /^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$/
  const bytes = uuid.test(from) ? unhex(from.replaceAll("-", "").toLowerCase()) : fromBase58Check(from.replace(/^automerge:/, ""))
  if (bytes?.length !== 16) throw new BadMessage("frame-document-id", from)
  return toBase58Check(bytes)
}

const synced = (type, fields) => ({ type, ...fields.about(), data: fields.data(LIMITS.frameBytes) })

const SHAPES = {
  join: (type, fields) => ({
    type,
    senderId: fields.sender(),
    peerMetadata: fields.metadata(),
    supportedProtocolVersions: fields.texts("supportedProtocolVersions", LIMITS.versions, LIMITS.versionBytes) ?? ["1"],
  }),
  peer: (type, fields) => ({
    type,
    senderId: fields.sender(),
    targetId: fields.text("targetId", LIMITS.peerId),
    peerMetadata: fields.metadata(),
    selectedProtocolVersion: fields.text("selectedProtocolVersion", LIMITS.versionBytes),
  }),
  error: (type, fields) => {
    const meaning = { type, message: cut(fields.text("message"), LIMITS.errorBytes) }
    for (const name of ["senderId", "targetId"]) {
      if (fields.get(name) !== undefined) meaning[name] = fields.text(name, LIMITS.peerId)
    }
    return meaning
  },
  leave: (type, fields) => ({ type, senderId: fields.sender() }),
  request: synced,
  sync: synced,
  ephemeral: (type, fields) => ({
    type,
    ...fields.about(),
    count: wholeNumber(fields.need("count"), "count"),
    sessionId: fields.text("sessionId", LIMITS.sessionId),
    data: fields.data(LIMITS.ephemeralBytes),
  }),
  "doc-unavailable": (type, fields) => ({ type, ...fields.about() }),
  "remote-subscription-change": (type, fields) => ({
    type,
    senderId: fields.sender(),
    targetId: fields.text("targetId", LIMITS.peerId),
    add: fields.texts("add", LIMITS.gossipEntries, LIMITS.storageId) ?? [],
    remove: fields.texts("remove", LIMITS.gossipEntries, LIMITS.storageId) ?? [],
  }),
  "remote-heads-changed": (type, fields) => ({ type, ...fields.about(), newHeads: newHeads(fields.need("newHeads")) }),
  "rejoin-delete": (type, fields) => ({
    type,
    ...fields.about(),
    time: wholeNumber(fields.need("time"), "time"),
    by: fields.text("by", LIMITS.by),
    purge: fields.flag("purge"),
    ack: fields.flag("ack"),
  }),
}

function newHeads(map) {
  if (!(map instanceof Map)) throw invalid("newHeads is no map")
  let count = 0
  const heads = {}
  for (const [storageId, entry] of map) {
    text(storageId, "newHeads", LIMITS.storageId)
    if (++count > LIMITS.gossipEntries) throw new BadMessage("frame-limit", "newHeads")
    if (!(entry instanceof Map)) throw invalid("newHeads holds no map")
    const found = { heads: [], timestamp: undefined }
    const list = entry.get("heads")
    if (list !== undefined) {
      if (!Array.isArray(list)) throw invalid("heads is no array")
      if (list.length > LIMITS.gossipHeads) throw new BadMessage("frame-limit", "heads")
      found.heads = list.map(head => {
        const bytes = fromBase58Check(text(head, "heads", 64))
        if (bytes?.length !== 32) throw new BadMessage("frame-head", head)
        return hex(bytes)
      })
    }
    if (!entry.has("timestamp")) throw invalid("timestamp is missing")
    found.timestamp = wholeNumber(entry.get("timestamp"), "timestamp")
    heads[storageId] = found
  }
  return heads
}

/** Cuts a text to so many bytes of UTF-8, between two characters. */
function cut(whole, limit) {
  const bytes = Buffer.from(whole)
  if (bytes.length <= limit) return whole
  let end = limit
  while ((bytes[end] & 0xc0) === 0x80) end -= 1
  return bytes.subarray(0, end).toString()
}

const ORDER = [
  "type", "senderId", "peerMetadata", "supportedProtocolVersions", "selectedProtocolVersion", "message", "documentId", "count",
  "sessionId", "data", "add", "remove", "newHeads", "time", "by", "purge", "ack",
]

/** The map of a message: known fields in our order, then others as they are, then `targetId`. */
function toMap(meaning) {
  const map = new Map()
  const others = Object.keys(meaning).filter(name => !ORDER.includes(name) && name !== "targetId")
  for (const name of [...ORDER, ...others, "targetId"]) {
    const value = meaning[name]
    if (value === undefined || ((name === "purge" || name === "ack") && value === false)) continue
    map.set(name, fieldOf(name, value))
  }
  return map
}

function fieldOf(name, value) {
  if (name === "data" && typeof value === "string") return unhex(value)
  if (name === "peerMetadata" && typeof value === "object" && value !== null) {
    const { storageId, isEphemeral, rejoin, epoch, ...others } = value
    const life = epoch === undefined ? undefined : unhex(epoch)
    return Object.fromEntries(Object.entries({ storageId, isEphemeral, rejoin, epoch: life, ...others }).filter(([, one]) => one !== undefined))
  }
  if (name === "newHeads" && typeof value === "object" && value !== null) {
    const entries = Object.entries(value).map(([storageId, { heads, timestamp }]) => [
      storageId,
      { heads: heads.map(head => toBase58Check(unhex(head))), timestamp: new Float(timestamp) },
    ])
    return new Map(entries)
  }
  return value
}
