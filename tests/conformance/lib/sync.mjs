// Automerge's sync message, and as much of an Automerge peer as it takes to drive a server: it knows changes by their hash and
// dependencies, and needs no CRDT.
import { inflateRawSync } from "node:zlib"
import { BadMessage, hex, sha256, unhex } from "./bytes.mjs"

const LIMITS = { hashes: 65_536, haves: 16, changes: 1_048_576, bloomEntries: 4_000_000, bloomBits: 64, bloomProbes: 32 }

const malformed = text => new BadMessage("sync-malformed", text)

/** Writes an unsigned LEB128 number. */
export function leb(number) {
  const bytes = []
  for (let rest = BigInt(number); ; rest >>= 7n) {
    const low = Number(rest & 127n)
    if (rest < 128n) return Buffer.from([...bytes, low])
    bytes.push(low | 128)
  }
}

class Reader {
  constructor(bytes) {
    this.bytes = bytes
    this.at = 0
  }

  take(count) {
    if (count > this.bytes.length - this.at) throw malformed("cut off")
    this.at += count
    return this.bytes.subarray(this.at - count, this.at)
  }

  number() {
    let number = 0n
    for (let shift = 0n; shift < 64n; shift += 7n) {
      const byte = this.take(1)[0]
      number |= BigInt(byte & 127) << shift
      if (byte < 128) {
        if (byte === 0 && shift > 0n) throw malformed("a number with needless zeros")
        if (number >= 1n << 64n) throw malformed("a number above 64 bits")
        return Number(number)
      }
    }
    throw malformed("a number above 64 bits")
  }

  hashes() {
    const count = this.number()
    if (count > LIMITS.hashes) throw new BadMessage("sync-limit", "hashes")
    const found = []
    for (let index = 0; index < count; index++) found.push(hex(this.take(32)))
    return [...new Set(found)].sort()
  }
}

/** Reads a sync message. Throws `BadMessage`. */
export function decodeSync(bytes) {
  const reader = new Reader(Buffer.from(bytes))
  const version = { 0x42: 1, 0x43: 2 }[reader.take(1)[0]]
  if (version === undefined) throw new BadMessage("sync-version", "neither 0x42 nor 0x43")
  const [heads, need] = [reader.hashes(), reader.hashes()]
  const haves = reader.number()
  if (haves > LIMITS.haves) throw new BadMessage("sync-limit", "have")
  const have = []
  for (let index = 0; index < haves; index++) {
    const lastSync = reader.hashes()
    have.push({ lastSync, bloom: bloom(reader.take(reader.number())) })
  }
  const count = reader.number()
  if (count > LIMITS.changes) throw new BadMessage("sync-limit", "changes")
  const changes = []
  for (let index = 0; index < count; index++) {
    const change = reader.take(reader.number())
    if (change.length === 0) continue
    if (change.length < 10) throw malformed("a change shorter than a chunk")
    changes.push(hex(change))
  }
  const message = { version, heads, need, have, changes }
  if (reader.at < reader.bytes.length) {
    message.flags = [...reader.take(reader.number())].reduce((bits, byte) => (byte & 128 ? bits | (byte & 127) : bits), 0)
  }
  return message
}

/** Checks the bytes of a Bloom filter, and returns them in hex; a filter that holds nothing is no bytes at all. */
function bloom(bytes) {
  if (bytes.length === 0) return ""
  const bad = text => new BadMessage("sync-bloom", text)
  const reader = new Reader(bytes)
  const [entries, bits, probes] = [reader.number(), reader.number(), reader.number()]
  if (entries === 0) return ""
  if (entries > LIMITS.bloomEntries) throw bad("entries")
  if (bits < 1 || bits > LIMITS.bloomBits) throw bad("bits per entry")
  if (probes < 1 || probes > LIMITS.bloomProbes) throw bad("probes")
  if (bytes.length - reader.at !== Math.ceil((entries * bits) / 8)) throw bad("length")
  return hex(bytes)
}

const hashList = hashes => Buffer.concat([leb(hashes.length), ...[...hashes].sort().map(unhex)])
const sized = bytes => Buffer.concat([leb(bytes.length), bytes])

/** Writes a sync message: what is absent is empty, the version 1, and there is no flags section without `flags`. */
export function encodeSync({ version = 1, heads = [], need = [], have = [], changes = [], flags }) {
  return Buffer.concat([
    Buffer.from([version === 1 ? 0x42 : 0x43]),
    hashList(heads),
    hashList(need),
    leb(have.length),
    ...have.flatMap(({ lastSync = [], bloom = "" }) => [hashList(lastSync), sized(unhex(bloom))]),
    leb(changes.length),
    ...changes.map(change => sized(unhex(change))),
    ...(flags === undefined ? [] : [Buffer.from([2, 2, 0x80 | flags])]),
  ])
}

/** The hash and dependencies of an Automerge change chunk, compressed or not; null for any other chunk. */
export function changeOf(chunkHex) {
  const chunk = unhex(chunkHex)
  if (chunk.length < 10 || !chunk.subarray(0, 4).equals(Buffer.from("856f4a83", "hex"))) return null
  const reader = new Reader(chunk)
  reader.take(8)
  const type = reader.take(1)[0]
  if (type !== 1 && type !== 2) return null
  let body = reader.take(reader.number())
  if (type === 2) body = inflateRawSync(body, { maxOutputLength: 1 << 24 })
  const hash = hex(sha256(Buffer.concat([Buffer.from([1]), leb(body.length), body])))
  const inner = new Reader(body)
  return { hash, deps: inner.hashes() }
}

/**
 * One document on one connection, as the kit's client has it. Give it what comes with `receive`; what it returns is to be sent, if
 * it is not null.
 */
export class SyncPeer {
  constructor() {
    this.changes = new Map()
    this.theirHeads = null
    this.sent = new Set()
    this.told = null
  }

  add(chunkHex) {
    const change = changeOf(chunkHex)
    if (change === null) throw new Error("the kit speaks V1 and got a chunk that is no single change")
    this.changes.set(change.hash, { ...change, bytes: chunkHex })
    return change.hash
  }

  heads() {
    const below = new Set([...this.changes.values()].flatMap(change => change.deps))
    return [...this.changes.keys()].filter(hash => !below.has(hash)).sort()
  }

  /** Whether every change that these name is here. */
  has(hashes) {
    return hashes.every(hash => this.changes.has(hash))
  }

  /** The message that begins the conversation, or follows a change of one's own. */
  next(needed = []) {
    const known = this.#below(this.theirHeads ?? [])
    const lacking = this.#inOrder().filter(hash => needed.includes(hash) || !(known.has(hash) || this.sent.has(hash)))
    lacking.forEach(hash => this.sent.add(hash))
    const heads = this.heads()
    const shared = (this.theirHeads ?? []).filter(hash => this.changes.has(hash))
    const need = (this.theirHeads ?? []).filter(hash => !this.changes.has(hash))
    this.told = JSON.stringify(heads)
    return { heads, need, have: [{ lastSync: shared, bloom: "" }], changes: lacking.map(hash => this.changes.get(hash).bytes) }
  }

  receive(message) {
    message.changes.forEach(change => this.add(change))
    this.theirHeads = message.heads
    const isNews = message.changes.length > 0 || message.need.length > 0 || this.told !== JSON.stringify(this.heads())
    return isNews || !this.has(message.heads) || this.#unsent().length > 0 ? this.next(message.need) : null
  }

  #unsent() {
    const known = this.#below(this.theirHeads ?? [])
    return [...this.changes.keys()].filter(hash => !known.has(hash) && !this.sent.has(hash))
  }

  #below(heads) {
    const found = new Set()
    const open = heads.filter(hash => this.changes.has(hash))
    while (open.length > 0) {
      const hash = open.pop()
      if (found.has(hash)) continue
      found.add(hash)
      open.push(...this.changes.get(hash).deps.filter(dep => this.changes.has(dep)))
    }
    return found
  }

  #inOrder() {
    const order = [], done = new Set()
    const visit = hash => {
      if (done.has(hash) || !this.changes.has(hash)) return
      done.add(hash)
      this.changes.get(hash).deps.forEach(visit)
      order.push(hash)
    }
    ;[...this.changes.keys()].sort().forEach(visit)
    return order
  }
}
