/** Ids: documents and spaces are named by 16 random bytes, shown in base 58 with a checksum, as automerge-repo does. */
import { RejoinError } from "./errors.js";
import { fromHex, toHex } from "./values.js";

const ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
const PREFIX = "automerge:";

/** The first 64 primes' roots, as FIPS 180-4 wants them: 32 bits of the fraction of a square or cube root. */
function constants(): { start: number[]; round: number[] } {
  const start: number[] = [];
  const round: number[] = [];
  const fraction = (root: number): number => ((root % 1) * 2 ** 32) | 0;
  for (let n = 2; round.length < 64; n++) {
    let prime = true;
    for (let by = 2; by * by <= n; by++) if (n % by === 0) prime = false;
    if (!prime) continue;
    if (start.length < 8) start.push(fraction(Math.sqrt(n)));
    round.push(fraction(Math.cbrt(n)));
  }
  return { start, round };
}

let tables: ReturnType<typeof constants> | undefined;

/**
 * SHA-256. The browser's own is asynchronous and missing on insecure origins, and an id must be there at once.
 */
export function sha256(bytes: Uint8Array): Uint8Array {
  const { start, round } = (tables ??= constants());
  const padded = new Uint8Array(((bytes.length + 72) >> 6) << 6);
  padded.set(bytes);
  padded[bytes.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setUint32(padded.length - 8, Math.floor(bytes.length / 2 ** 29));
  view.setUint32(padded.length - 4, (bytes.length << 3) >>> 0);
  const rotate = (word: number, by: number): number => (word >>> by) | (word << (32 - by));
  const state = [...start];
  const words = new Int32Array(64);
  for (let block = 0; block < padded.length; block += 64) {
    let [a, b, c, d, e, f, g, h] = state as [number, number, number, number, number, number, number, number];
    for (let at = 0; at < 64; at++) {
      if (at < 16) words[at] = view.getInt32(block + at * 4);
      else {
        const low = words[at - 15] as number;
        const high = words[at - 2] as number;
        const s0 = rotate(low, 7) ^ rotate(low, 18) ^ (low >>> 3);
        const s1 = rotate(high, 17) ^ rotate(high, 19) ^ (high >>> 10);
        words[at] = (words[at - 16] as number) + s0 + (words[at - 7] as number) + s1;
      }
      const s1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
      const t1 = (h + s1 + ((e & f) ^ (~e & g)) + (round[at] as number) + (words[at] as number)) | 0;
      const s0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
      const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      [h, g, f, e, d, c, b, a] = [g, f, e, (d + t1) | 0, c, b, a, (t1 + t2) | 0];
    }
    [a, b, c, d, e, f, g, h].forEach((word, at) => (state[at] = ((state[at] as number) + word) | 0));
  }
  const digest = new Uint8Array(32);
  const out = new DataView(digest.buffer);
  state.forEach((word, at) => out.setInt32(at * 4, word));
  return digest;
}

const checksum = (bytes: Uint8Array): Uint8Array => sha256(sha256(bytes)).subarray(0, 4);

/** Writes bytes in base 58 with a checksum of four bytes (bs58check). */
export function encodeBase58(bytes: Uint8Array): string {
  let rest = BigInt(`0x${toHex(bytes)}${toHex(checksum(bytes))}`);
  let out = "";
  for (; rest > 0n; rest /= 58n) out = ALPHABET[Number(rest % 58n)] + out;
  for (let at = 0; bytes[at] === 0; at++) out = `1${out}`;
  return out;
}

/** Makes the 16 bytes of a random UUID, version 4. */
function randomUuid(): Uint8Array {
  // `crypto.randomUUID` is missing on insecure origins; this is not.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] as number) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80;
  return bytes;
}

/** Makes the id of a new document or space. */
export const newId = (): string => encodeBase58(randomUuid());

/** Reads an id in base 58 or as a UUID, and returns it in base 58; undefined for what is neither, a mistyped character included. */
function parseId(id: string): string | undefined {
  const uuid = /^[0-9a-f]{8}(-?)[0-9a-f]{4}\1[0-9a-f]{4}\1[0-9a-f]{4}\1[0-9a-f]{12}$/i;
  if (uuid.test(id)) return encodeBase58(fromHex(id.replaceAll("-", "")));
  if (id.length > 40) return undefined;
  let rest = 0n;
  for (const digit of id) {
    const value = ALPHABET.indexOf(digit);
    if (value < 0) return undefined;
    rest = rest * 58n + BigInt(value);
  }
  const bytes = fromHex(rest.toString(16).padStart(40, "0"));
  return bytes.length === 20 && encodeBase58(bytes.subarray(0, 16)) === id ? id : undefined;
}

/** Reads a document's id, UUID or URL. Throws `bad_argument` for what is none of these. */
export function parseDocumentId(idOrUrl: string): string {
  const id = parseId(String(idOrUrl).replace(PREFIX, "").replace(/[#?].*$/, ""));
  if (id === undefined) throw new RejoinError("bad_argument", `not the id of a document: ${idOrUrl}`);
  return id;
}

/** A document's URL, as automerge-repo writes it. */
export const documentUrl = (id: string): string => PREFIX + id;

/** Reads a space's id or UUID. Throws `bad_argument` for what is neither. */
export function parseSpaceId(space: string): string {
  const id = parseId(String(space));
  if (id === undefined) throw new RejoinError("bad_argument", `not the id of a space: ${space}`);
  return id;
}
