/**
 * Values: what JavaScript can put into a document, and the tagged JSON in which it travels.
 *
 * JSON has no dates, bytes, counters, texts and large integers, so each travels as an object with one key that begins with `$`. A real key
 * that looks like such a tag travels with one more `$`.
 */
import { RejoinError } from "./errors.js";
import type { Tagged } from "./link.js";

declare const TEXT: unique symbol;

/**
 * A text: a string in which concurrent typing merges, character by character. It reads as a plain string; {@link text} makes one.
 *
 * @example
 * ```ts
 * type Note = { title: string; body: Text };
 * const note = await repo.create<Note>({ title: "Shopping", body: text("milk") });
 * await note.text("body").splice(4, 0, " and tea");
 * console.assert(note.value.body === "milk and tea");
 * ```
 */
export type Text = string & { readonly [TEXT]: true };

/** The engine's word for a value: what a draft and a patch hold. */
export type Value = null | boolean | number | string | bigint | Date | Uint8Array | Counter | Unknown | List | Fields;
export type List = readonly Value[];
export interface Fields {
  readonly [key: string]: Value;
}

/**
 * A number that merges by addition: concurrent increments all count. It is immutable; increment it through a document.
 *
 * @example
 * ```ts
 * const poll = await repo.create({ votes: new Counter(0) });
 * await poll.increment("votes");
 * console.assert(poll.value.votes.value === 1);
 * ```
 */
export class Counter {
  /** What it stands at. */
  readonly value: number;

  constructor(value = 0) {
    if (!Number.isSafeInteger(value)) throw new RejoinError("bad_value", "a counter counts in integers");
    this.value = value;
  }

  /**
   * Adds to it, 1 by default: in a draft of `doc.change` only. Elsewhere it throws RejoinError `unsupported`.
   *
   * @example
   * ```ts
   * const poll = await repo.create({ votes: new Counter(0) });
   * await poll.change((draft) => draft.votes.increment());
   * console.assert(poll.value.votes.value === 1);
   * ```
   */
  increment(_by?: number): void {
    throw new RejoinError("unsupported", "a counter that is read does not change: use doc.increment(path), or increment it in doc.change");
  }

  /**
   * Takes from it, 1 by default, as {@link Counter.increment} adds.
   *
   * @example
   * ```ts
   * const stock = await repo.create({ left: new Counter(10) });
   * await stock.change((draft) => draft.left.decrement(3));
   * console.assert(stock.value.left.value === 7);
   * ```
   */
  decrement(by = 1): void {
    this.increment(-by);
  }

  valueOf(): number {
    return this.value;
  }

  toJSON(): number {
    return this.value;
  }

  toString(): string {
    return String(this.value);
  }
}

/**
 * A value of a kind that this version does not know, kept as it is.
 *
 * @example
 * ```ts
 * const doc = await repo.create<{ from?: unknown }>({ from: new Unknown(12, new Uint8Array([1])) });
 * console.assert(doc.value.from instanceof Unknown);
 * ```
 */
export class Unknown {
  /** The number of its kind, and its bytes. */
  constructor(
    readonly type: number,
    readonly bytes: Uint8Array,
  ) {}
}

/** What {@link text} makes: at run time an object, until it has been written. */
export class TextMarker {
  constructor(readonly text: string) {}
}

/**
 * Makes a text of a string, to be written into a document. A plain string is written as one value, which is replaced as a whole.
 *
 * @example
 * ```ts
 * const note = await repo.create({ body: text("Dear diary") });
 * console.assert(note.value.body === "Dear diary");
 * ```
 */
export function text(value = ""): Text {
  return new TextMarker(String(value)) as unknown as Text;
}

/** Whether snapshots are frozen: outside production, so that writing to one is noticed where it happens. */
const frozen = ((): boolean => {
  try {
    // Word for word what bundlers replace. A page without a bundler has neither.
    return process.env.NODE_ENV !== "production";
  } catch {
    return false;
  }
})();

/** Freezes one object or array outside production; what is in it was frozen before. */
export function freeze<T extends object>(node: T): T {
  return frozen ? Object.freeze(node) : node;
}

/** A counter as it stands: what all devices counted together may be more than one of them may count. */
export function counted(value: number): Counter {
  return freeze(Object.assign(Object.create(Counter.prototype) as Counter, { value }));
}

/** Copies a value with all that is in it, for whoever may change it. */
export function thaw(value: Value): Value {
  if (Array.isArray(value)) return value.map(thaw);
  if (value instanceof Date) return new Date(value);
  if (value instanceof Uint8Array) return value.slice();
  if (!isNode(value)) return value;
  const fields: Record<string, Value> = {};
  for (const key of Object.keys(value)) put(fields, key, thaw((value as Fields)[key] as Value));
  return fields;
}

/** Whether two dates or two byte arrays are equal. */
export function equal(one: unknown, other: unknown): boolean {
  if (one instanceof Date) return other instanceof Date && +one === +other;
  return one instanceof Uint8Array && other instanceof Uint8Array && String(one) === String(other);
}

/** Whether a value has parts: a map or a list. */
export function isNode(value: unknown): value is Fields | List {
  return Array.isArray(value) || isFields(value);
}

/** Whether a value is a map. */
export function isFields(value: unknown): value is Fields {
  if (typeof value !== "object" || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  // An object of another realm has another Object.prototype, above which there is nothing either.
  return prototype === null || (Object.getPrototypeOf(prototype) === null && !Array.isArray(value));
}

/** Sets a key of a map that is being made. `__proto__` is a key like any other, and must not reach the setter of that name. */
export function put<T>(fields: Record<string, T>, key: string, value: T): void {
  if (key === "__proto__") Object.defineProperty(fields, key, { value, writable: true, enumerable: true, configurable: true });
  else fields[key] = value;
}

/** Whether a map has a key of its own. */
export const has = (fields: object, key: string): boolean => Object.prototype.hasOwnProperty.call(fields, key);

/** Writes bytes as hex digits. */
export function toHex(bytes: Uint8Array): string {
  let hex = "";
  for (const byte of bytes) hex += (byte < 16 ? "0" : "") + byte.toString(16);
  return hex;
}

/** Reads hex digits. */
export function fromHex(hex: string): Uint8Array {
  const bytes = new Uint8Array(hex.length >> 1);
  for (let at = 0; at < bytes.length; at++) bytes[at] = parseInt(hex.slice(at * 2, at * 2 + 2), 16);
  return bytes;
}

/** Whether a string has whole characters only. */
export const isWhole = (value: string): boolean => !/\p{Surrogate}/u.test(value);

const HALF = "has half a character, a lone surrogate, in it: cut strings between characters";

const TAG = /^\$+(date|bytes|counter|text|int|uint|float|type)$/;
/** Deeper nesting is taken for a cycle. */
const DEPTH_MAX = 200;
const INT_MIN = -(2n ** 63n);
const INT_END = 2n ** 63n;
const UINT_END = 2n ** 64n;

/** What a draft's proxy stands for, or the value itself. Set by `draft.ts`. */
export type Unwrap = (value: unknown) => unknown;

/**
 * Writes a JavaScript value in tagged form.
 *
 * Throws TypeError for `undefined` and RejoinError `bad_value` for what a document cannot hold, naming the place.
 */
export function encode(value: unknown, at = "the value", unwrap: Unwrap = (same) => same, depth = 0): Tagged {
  const bad = (why: string): never => {
    throw new RejoinError("bad_value", `${at} ${why}`);
  };
  value = unwrap(value);
  switch (typeof value) {
    case "undefined":
      return bad("is undefined: leave the key out, delete it, or use null");
    case "string":
      return isWhole(value) ? value : bad(HALF);
    case "boolean":
      return value;
    case "number":
      return Number.isFinite(value) && (Number.isSafeInteger(value) || !Number.isInteger(value)) ? value : { $float: String(value) };
    case "bigint":
      if (value < INT_MIN || value >= UINT_END) return bad("has more than 64 bits");
      if (Number.isSafeInteger(Number(value))) return Number(value);
      return value < INT_END ? { $int: String(value) } : { $uint: String(value) };
    case "object":
      break;
    default:
      return bad(`is a ${typeof value}, which a document cannot hold`);
  }
  if (value === null) return null;
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? bad("is an invalid date") : { $date: value.getTime() };
  if (value instanceof Uint8Array) return { $bytes: toHex(value) };
  if (value instanceof Counter) return { $counter: value.value };
  if (value instanceof TextMarker) return isWhole(value.text) ? { $text: value.text } : bad(HALF);
  if (value instanceof Unknown) return { $type: value.type, $bytes: toHex(value.bytes) };
  if (depth > DEPTH_MAX) return bad("is nested too deeply, or contains itself");
  if (Array.isArray(value)) return Array.from(value, (item, index) => encode(item, `${at}[${index}]`, unwrap, depth + 1));
  if (!isFields(value)) return bad(`is a ${(value as object).constructor?.name ?? "strange object"}, which a document cannot hold: make it a plain object`);
  const fields: Record<string, Tagged> = {};
  for (const [key, item] of Object.entries(value)) {
    if (!isWhole(key)) return bad(`has a key that ${HALF}`);
    put(fields, escape(key), encode(item, `${at}.${key}`, unwrap, depth + 1));
  }
  return fields;
}

const escape = (key: string): string => (TAG.test(key) ? `$${key}` : key);

/** Reads a value in tagged form. What it returns is frozen outside production. */
export function decode(tagged: Tagged): Value {
  if (typeof tagged !== "object" || tagged === null) return tagged;
  if (Array.isArray(tagged)) return freeze(tagged.map(decode));
  for (const key in tagged) {
    if (key[0] !== "$" || !TAG.test(key) || key[1] === "$") break;
    return untag(tagged);
  }
  const fields: Record<string, Value> = {};
  for (const key of Object.keys(tagged)) put(fields, key[1] === "$" && TAG.test(key) ? key.slice(1) : key, decode(tagged[key] as Tagged));
  return freeze(fields);
}

function untag(tagged: { [key: string]: Tagged }): Value {
  const { $date, $bytes, $counter, $text, $int, $uint, $float, $type } = tagged;
  if ($date !== undefined) return new Date(Number($date));
  if ($type !== undefined) return freeze(new Unknown(Number($type), fromHex(String($bytes))));
  if ($bytes !== undefined) return fromHex(String($bytes));
  if ($counter !== undefined) return counted(Number($counter));
  if ($text !== undefined) return String($text);
  if ($float !== undefined) return Number($float);
  const integer = BigInt(String($int ?? $uint));
  return Number.isSafeInteger(Number(integer)) ? Number(integer) : integer;
}
