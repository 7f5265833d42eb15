// The golden frames, by the kit's own codecs: what they say is what the codecs read and write.
import { readFileSync } from "node:fs"
import { isDeepStrictEqual } from "node:util"
import { BadMessage, hex, unhex } from "./bytes.mjs"
import * as classic from "./classic.mjs"
import * as v1 from "./v1.mjs"
import { decodeSync, encodeSync } from "./sync.mjs"
import { show } from "./match.mjs"

const FILES = {
  classic: [
    ["classic/frames.json", bytes => classic.decode(bytes), meaning => classic.encode(meaning)],
    ["classic/sync-messages.json", bytes => decodeSync(bytes), meaning => encodeSync(meaning)],
  ],
  v1: [["v1/frames.json", (bytes, frame) => v1.decode(bytes, frame.from), meaning => v1.encode(meaning)]],
}

/**
 * Checks every frame of a protocol, after `doctor` has changed it. Returns how many there are, and what is wrong, a line each.
 */
export function checkFrames(protocol, doctor = frame => frame) {
  const wrong = []
  let count = 0
  for (const [file, decode, encode] of FILES[protocol]) {
    for (const frame of JSON.parse(readFileSync(new URL(`../${file}`, import.meta.url))).frames) {
      count += 1
      const why = check(doctor(frame), decode, encode)
      if (why) wrong.push(`${file}: ${frame.name}: ${why}`)
    }
  }
  return { count, wrong }
}

function check(frame, decode, encode) {
  let meaning
  try {
    meaning = decode(unhex(frame.hex), frame)
  } catch (error) {
    if (!(error instanceof BadMessage)) throw error
    if (frame.valid) return `is refused: ${error.message}`
    return error.code === frame.error ? null : `is refused as ${error.code}, and not as ${frame.error}`
  }
  if (!frame.valid) return `is read, as ${show(meaning)}`
  // Through JSON, which knows no undefined.
  if (!isDeepStrictEqual(JSON.parse(JSON.stringify(meaning)), frame.meaning)) return `is read as ${show(meaning)}`
  const written = encode(frame.meaning)
  if ((hex(written) === frame.hex) !== frame.canonical) return `is written as ${hex(written)}`
  if (!isDeepStrictEqual(JSON.parse(JSON.stringify(decode(written, frame))), frame.meaning)) return "is read differently when written anew"
  return null
}
