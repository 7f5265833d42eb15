// As much CBOR as the classic protocol needs: read whatever is well-formed, write definite lengths with the shortest headers.
import { BadMessage } from "./bytes.mjs"

const DEPTH_MAX = 16

/** A tagged value that is read but means nothing here. */
export class Tagged {
  constructor(tag, value) {
    this.tag = tag
    this.value = value
  }
}

const malformed = text => new BadMessage("frame-malformed", text)

/**
 * Reads one value, which must be all there is. Maps become `Map`, byte strings `Buffer`, `null` and `undefined` themselves; texts and
 * byte strings of indefinite length become `Tagged("indefinite", ..)`, because the protocol takes none where it looks.
 */
export function decode(bytes) {
  const reader = { bytes: Buffer.from(bytes), at: 0 }
  const value = read(reader, 0)
  if (reader.at !== reader.bytes.length) throw malformed("bytes follow the message")
  return value
}

function take(reader, count) {
  if (count > reader.bytes.length - reader.at) throw malformed("cut off")
  reader.at += count
  return reader.bytes.subarray(reader.at - count, reader.at)
}

/** The number of a head, `null` for an indefinite length. */
function argument(reader, low) {
  if (low < 24) return low
  if (low === 24) return take(reader, 1)[0]
  if (low === 25) return take(reader, 2).readUInt16BE()
  if (low === 26) return take(reader, 4).readUInt32BE()
  if (low === 27) {
    const number = take(reader, 8).readBigUInt64BE()
    return number <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(number) : number
  }
  if (low === 31) return null
  throw malformed("a reserved byte")
}

const isBreak = reader => {
  if (reader.at >= reader.bytes.length) throw malformed("cut off")
  if (reader.bytes[reader.at] !== 0xff) return false
  reader.at += 1
  return true
}

function read(reader, depth) {
  const first = take(reader, 1)[0]
  const major = first >> 5, low = first & 31
  if (major === 7) return simple(reader, low)
  const number = argument(reader, low)
  if (major === 0 && number !== null) return number
  if (major === 1 && number !== null) return typeof number === "bigint" ? -1n - number : -1 - number
  if (major === 2 || major === 3) return string(reader, major, number)
  if (depth >= DEPTH_MAX && (major === 6 || number !== 0)) throw malformed("nested too deep")
  if (major === 4) return list(reader, number, depth)
  if (major === 5) return map(reader, number, depth)
  if (major === 6 && number !== null) return new Tagged(number, read(reader, depth + 1))
  throw malformed("a reserved byte")
}

function string(reader, major, length) {
  if (length === null) {
    const parts = []
    while (!isBreak(reader)) {
      const first = take(reader, 1)[0]
      const part = argument(reader, first & 31)
      if (first >> 5 !== major || part === null) throw malformed("a part of another kind")
      parts.push(string(reader, major, part))
    }
    return new Tagged("indefinite", parts)
  }
  if (typeof length === "bigint") throw malformed("cut off")
  const bytes = take(reader, length)
  if (major === 2) return Buffer.from(bytes)
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    throw malformed("a text that is not UTF-8")
  }
}

function list(reader, length, depth) {
  const items = []
  while (length === null ? !isBreak(reader) : items.length < length) items.push(read(reader, depth + 1))
  return items
}

function map(reader, length, depth) {
  const entries = new Map()
  let count = 0
  while (length === null ? !isBreak(reader) : count < length) {
    const key = read(reader, depth + 1)
    entries.set(key, read(reader, depth + 1))
    count += 1
  }
  return entries
}

function simple(reader, low) {
  if (low === 20 || low === 21) return low === 21
  if (low === 22) return null
  if (low === 23) return undefined
  if (low === 25) return half(take(reader, 2).readUInt16BE())
  if (low === 26) return take(reader, 4).readFloatBE()
  if (low === 27) return take(reader, 8).readDoubleBE()
  if (low === 24) return new Tagged("simple", take(reader, 1)[0])
  if (low < 20) return new Tagged("simple", low)
  throw malformed(low === 31 ? "a break where nothing is open" : "a reserved byte")
}

/** Floats of 32 and 64 bits stand for numbers; those of 16 bits are well-formed and no number that anybody writes. */
const half = bits => new Tagged("half", bits)

/** Writes a value: texts, byte strings, booleans, arrays, plain objects, `Map`s, whole numbers, `Float` and `Raw`. */
export function encode(value) {
  const out = []
  write(out, value)
  return Buffer.concat(out)
}

/** A number that is written as a float of 64 bits. */
export class Float {
  constructor(number) {
    this.number = number
  }
}

/** Bytes that are written as they are: for what no encoder would write. */
export class Raw {
  constructor(bytes) {
    this.bytes = Buffer.from(bytes)
  }
}

function head(out, major, number) {
  const first = major << 5
  if (number < 24) return out.push(Buffer.from([first | number]))
  if (number < 256) return out.push(Buffer.from([first | 24, number]))
  const wide = number < 65_536 ? Buffer.alloc(3) : Buffer.alloc(5)
  wide[0] = first | (wide.length === 3 ? 25 : 26)
  wide.writeUIntBE(number, 1, wide.length - 1)
  return out.push(wide)
}

function write(out, value) {
  if (value instanceof Raw) return out.push(value.bytes)
  if (value instanceof Float) {
    const bytes = Buffer.alloc(9)
    bytes[0] = 0xfb
    bytes.writeDoubleBE(value.number, 1)
    return out.push(bytes)
  }
  if (typeof value === "boolean") return out.push(Buffer.from([value ? 0xf5 : 0xf4]))
  if (value === null) return out.push(Buffer.from([0xf6]))
  if (typeof value === "number") {
    if (Number.isInteger(value) && value >= 0 && value <= 0xffff_ffff) return head(out, 0, value)
    return write(out, new Float(value))
  }
  if (typeof value === "string") {
    const bytes = Buffer.from(value)
    head(out, 3, bytes.length)
    return out.push(bytes)
  }
  if (value instanceof Uint8Array) {
    head(out, 2, value.length)
    return out.push(Buffer.from(value))
  }
  if (Array.isArray(value)) {
    head(out, 4, value.length)
    return value.forEach(item => write(out, item))
  }
  const entries = value instanceof Map ? [...value] : Object.entries(value)
  head(out, 5, entries.length)
  for (const [key, item] of entries) {
    write(out, key)
    write(out, item)
  }
}
