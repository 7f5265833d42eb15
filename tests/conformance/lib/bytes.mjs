// Hexadecimal, base58 with a checksum, and the errors of the kit's codecs.
import { createHash } from "node:crypto"

const ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

export const sha256 = bytes => createHash("sha256").update(bytes).digest()

export const hex = bytes => Buffer.from(bytes).toString("hex")

export function unhex(text) {
  if (typeof text !== "string" || text.length % 2 !== 0 || !/^[0-9a-f]*$/.test(text)) throw new Error(`not lower-case hex: ${text}`)
  return Buffer.from(text, "hex")
}

/** Bytes as bs58check: base58 of the bytes and 4 bytes of their double SHA-256. */
export function toBase58Check(bytes) {
  const whole = Buffer.concat([bytes, sha256(sha256(bytes)).subarray(0, 4)])
  let number = BigInt("0x0" + whole.toString("hex"))
  let text = ""
  for (; number > 0n; number /= 58n) text = ALPHABET[Number(number % 58n)] + text
  for (const byte of whole) {
    if (byte !== 0) break
    text = "1" + text
  }
  return text
}

/** The bytes of a bs58check text, or null if it is none. */
export function fromBase58Check(text) {
  let number = 0n
  for (const letter of text) {
    const digit = ALPHABET.indexOf(letter)
    if (digit < 0) return null
    number = number * 58n + BigInt(digit)
  }
  const digits = number === 0n ? "" : number.toString(16)
  const zeros = /^1*/.exec(text)[0].length
  const whole = Buffer.concat([Buffer.alloc(zeros), Buffer.from(digits.length % 2 ? "0" + digits : digits, "hex")])
  if (whole.length < 4) return null
  const bytes = whole.subarray(0, -4)
  return sha256(sha256(bytes)).subarray(0, 4).equals(whole.subarray(-4)) ? bytes : null
}

/** What is wrong with a message, by the stable code of the protocol's page. */
export class BadMessage extends Error {
  constructor(code, text) {
    super(`${code}: ${text}`)
    this.code = code
  }
}
