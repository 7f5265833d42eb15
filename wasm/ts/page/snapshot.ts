/**
 * Snapshots: immutable values, and the steps that lead from one to the next.
 *
 * What a step does not touch keeps its identity, so that a framework renders again only what changed.
 */
import type { WirePatch, WirePath } from "./link.js";
import type { Path, Patch } from "./types.js";
import { Counter, counted, decode, type Fields, freeze, has, isFields, isNode, type List, put, type Value } from "./values.js";

/** One step from a state to the next, its values decoded. */
export type Step =
  | ["set", WirePath, Value]
  | ["delete", WirePath]
  | ["increment", WirePath, number]
  | ["insert", WirePath, number, List]
  | ["remove", WirePath, number, number]
  | ["splice", WirePath, number, number, string]
  | ["mark", WirePath]
  | ["conflict", WirePath]
  | ["all", Value];

/** Stands in a text's string for a block, which takes one index. */
export const BLOCK = "\uFFFC";

/** Reads what the engine tells as steps. */
export function toStep(patch: WirePatch): Step {
  switch (patch[0]) {
    case "set":
      return ["set", patch[1], decode(patch[2])];
    case "insert":
      return ["insert", patch[1], patch[2], patch[3].map(decode)];
    case "all":
      return ["all", decode(patch[1])];
    default:
      return patch;
  }
}

/** Shows a step as a patch. */
export function toPatch(step: Step): Patch {
  switch (step[0]) {
    case "set":
      return { op: "set", path: step[1], value: step[2] };
    case "delete":
      return { op: "delete", path: step[1] };
    case "increment":
      return { op: "increment", path: step[1], by: step[2] };
    case "insert":
      return { op: "insert", path: step[1], index: step[2], values: step[3] };
    case "remove":
      return { op: "remove", path: step[1], index: step[2], count: step[3] };
    case "splice":
      return { op: "splice", path: step[1], index: step[2], deleteCount: step[3], text: step[4] };
    case "all":
      return { op: "set", path: [], value: step[1] };
    default:
      return { op: step[0], path: step[1] };
  }
}

/** Reads the value at a path; undefined where there is none. */
export function at(root: Value | undefined, path: Path): Value | undefined {
  let node: Value | undefined = root;
  for (const key of path) {
    if (Array.isArray(node)) node = (node as List)[key as number];
    else if (isFields(node)) node = has(node, String(key)) ? node[key] : undefined;
    else return undefined;
  }
  return node;
}

type Parts = Record<string | number, Value>;

/**
 * A state to which steps are applied. Nodes are copied before the first write to them and frozen at the end, so a row of steps copies each
 * node once.
 */
export class Editor {
  #root: Value;
  readonly #own = new Set<object>();

  constructor(root: Value) {
    this.#root = root;
  }

  /** Applies a step. Returns false, and changes nothing, if it does not fit: its path leads nowhere or its index is beyond the end. */
  apply(step: Step): boolean {
    if (step[0] === "all") {
      this.#root = step[1];
      return true;
    }
    const path = step[1];
    if (step[0] === "mark" || step[0] === "conflict") return true;
    const current = at(this.#root, path);
    const last = path[path.length - 1];
    const parent = at(this.#root, path.slice(0, -1));
    if (last === undefined || !fits(parent, last)) return false;
    switch (step[0]) {
      case "set":
        return this.#set(path, step[2]);
      case "delete": {
        // Made and deleted between two of the engine's looks: it is not there already.
        if (current === undefined) return true;
        const node = this.#open(path.slice(0, -1)) as Parts;
        if (Array.isArray(node)) node.splice(last as number, 1);
        else delete node[last];
        return true;
      }
      case "increment":
        return current instanceof Counter && this.#set(path, counted(current.value + step[2]));
      case "splice": {
        const old = current === undefined && typeof last === "string" ? "" : current;
        if (typeof old !== "string" || step[2] + step[3] > old.length) return false;
        return this.#set(path, old.slice(0, step[2]) + step[4] + old.slice(step[2] + step[3]));
      }
      case "insert": {
        // A block in a text is told as an element that came in.
        if (typeof current === "string") return this.apply(["splice", path, step[2], 0, BLOCK.repeat(step[3].length)]);
        if (current === undefined && typeof last === "string") return step[2] === 0 && this.#set(path, freeze([...step[3]]));
        if (!Array.isArray(current) || step[2] > current.length) return false;
        insertAt(this.#open(path) as Value[], step[2], step[3]);
        return true;
      }
      case "remove":
        if (typeof current === "string") return this.apply(["splice", path, step[2], step[3], ""]);
        if (!Array.isArray(current) || step[2] + step[3] > current.length) return false;
        (this.#open(path) as Value[]).splice(step[2], step[3]);
        return true;
    }
  }

  /** The state so far. Do not keep it: further steps write to it. */
  get root(): Value {
    return this.#root;
  }

  /** Returns the state as one that stays as it is: further steps copy again. */
  finish(): Value {
    for (const node of this.#own) freeze(node);
    this.#own.clear();
    return this.#root;
  }

  #set(path: WirePath, value: Value): boolean {
    const parts = this.#open(path.slice(0, -1)) as Record<string, Value>;
    put(parts, String(path[path.length - 1]), value);
    return true;
  }

  /** Returns the node at a path that leads to one, as one that may be written. */
  #open(path: WirePath): object {
    let node = (this.#root = this.#mine(this.#root));
    for (const key of path) {
      const child = this.#mine((node as unknown as Parts)[key] as Value);
      put(node as unknown as Record<string, Value>, String(key), child);
      node = child;
    }
    return node as object;
  }

  #mine(node: Value): Value {
    if (this.#own.has(node as object)) return node;
    const copy = Array.isArray(node) ? [...(node as List)] : { ...(node as Fields) };
    this.#own.add(copy);
    return copy;
  }
}

/** Inserts values. Spreading many thousand of them into `splice` would overflow the stack. */
function insertAt(list: Value[], index: number, values: List): void {
  if (values.length < 1000) {
    list.splice(index, 0, ...values);
  } else {
    const after = list.splice(index);
    for (const part of [values, after]) for (const value of part) list.push(value);
  }
}

const fits = (parent: Value | undefined, key: string | number): boolean =>
  Array.isArray(parent) ? typeof key === "number" && key >= 0 && key < parent.length : isFields(parent) && typeof key === "string";

/**
 * Makes a step fit a state that has moved on since the step was made: indices are cut to what is there. Undefined where nothing of it is left.
 * The engine does it right and tells; this only bridges the moment until then.
 */
export function clamp(root: Value, step: Step): Step | undefined {
  if (step[0] !== "insert" && step[0] !== "remove" && step[0] !== "splice") return step;
  const current = at(root, step[1]);
  const length = typeof current === "string" || Array.isArray(current) ? current.length : 0;
  const index = Math.min(step[2], length);
  if (step[0] === "insert") return ["insert", step[1], index, step[3]];
  const count = Math.min(step[3], length - index);
  if (step[0] === "splice") return ["splice", step[1], index, count, step[4]];
  return count > 0 ? ["remove", step[1], index, count] : undefined;
}

/** Applies pending edits to a state that may have moved on. What no longer fits is left out. */
export function replay(root: Value, edits: Iterable<{ steps: readonly Step[] }>): Value {
  let editor: Editor | undefined;
  let state = root;
  for (const { steps } of edits) {
    for (const step of steps) {
      const cut = clamp(state, step);
      if (!cut) continue;
      editor ??= new Editor(state);
      editor.apply(cut);
      state = editor.root;
    }
  }
  return editor ? editor.finish() : root;
}

/** Whether two values that are no nodes are the same. */
function sameLeaf(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true;
  if (a instanceof Date) return b instanceof Date && a.getTime() === b.getTime();
  if (a instanceof Counter) return b instanceof Counter && a.value === b.value;
  if (a instanceof Uint8Array) return b instanceof Uint8Array && a.length === b.length && a.every((byte, at) => byte === b[at]);
  return false;
}

/**
 * Returns `next` with every part that equals its counterpart in `previous` replaced by it; `previous` itself if all is equal.
 * Parts with the same identity are not entered.
 */
export function share<T>(previous: T, next: T): T {
  if (sameLeaf(previous, next)) return previous;
  if (!isNode(previous) || !isNode(next)) return next;
  if (Array.isArray(previous) || Array.isArray(next)) return (Array.isArray(previous) && Array.isArray(next) ? shareList(previous, next) : next) as T;
  const [old, now] = [previous as unknown as Parts, next as unknown as Parts];
  const keys = Object.keys(next);
  let same = keys.length === Object.keys(previous).length;
  let shared: Parts | undefined;
  for (const key of keys) {
    const item = now[key] as Value;
    const kept = has(old, key) ? share(old[key] as Value, item) : item;
    same &&= kept === old[key] && has(old, key);
    if (kept === item) continue;
    put((shared ??= { ...now }), key, kept);
  }
  return same ? previous : shared ? (freeze(shared) as T) : next;
}

function shareList(old: List, now: List): List {
  // Where elements came or went, those that stand elsewhere now are not compared: they kept their identity if they did not change.
  if (old.length !== now.length) return now;
  let same = true;
  let shared: Value[] | undefined;
  for (let index = 0; index < now.length; index++) {
    const kept = share(old[index], now[index]) as Value;
    same &&= kept === old[index];
    if (kept !== now[index]) (shared ??= [...now])[index] = kept;
  }
  return same ? old : shared ? freeze(shared) : now;
}

/** Where two rows begin and end to differ: how many are equal at the front, and how many of each are not. */
function differing<T>(old: ArrayLike<T>, now: ArrayLike<T>, same: (a: T, b: T) => boolean): [start: number, removed: number, added: number] {
  let start = 0;
  let oldEnd = old.length;
  let newEnd = now.length;
  while (start < oldEnd && start < newEnd && same(old[start] as T, now[start] as T)) start++;
  while (oldEnd > start && newEnd > start && same(old[oldEnd - 1] as T, now[newEnd - 1] as T)) oldEnd--, newEnd--;
  return [start, oldEnd - start, newEnd - start];
}

/** Finds the one splice that makes a string of another; undefined if they are equal. It never parts a surrogate pair. */
export function spliceBetween(old: string, now: string): [index: number, deleteCount: number, insert: string] | undefined {
  if (old === now) return undefined;
  let [start, removed, added] = differing(old as ArrayLike<string>, now as ArrayLike<string>, (a, b) => a === b);
  const high = (unit: number): boolean => unit >= 0xd800 && unit < 0xdc00;
  const low = (unit: number): boolean => unit >= 0xdc00 && unit < 0xe000;
  if (start > 0 && high(old.charCodeAt(start - 1))) start--, removed++, added++;
  if (low(old.charCodeAt(start + removed))) removed++, added++;
  return [start, removed, now.slice(start, start + added)];
}

/** Finds steps that lead from one state to another. Cost: parts with the same identity are not entered. */
export function between(old: Value, now: Value, path: WirePath = [], steps: Step[] = []): Step[] {
  if (sameLeaf(old, now)) return steps;
  if (typeof old === "string" && typeof now === "string" && path.length) {
    steps.push(["splice", path, ...(spliceBetween(old, now) as [number, number, string])]);
  } else if (Array.isArray(old) && Array.isArray(now)) {
    const [start, removed, added] = differing<Value>(old, now, (a, b) => a === b);
    const both = Math.min(removed, added);
    for (let index = start; index < start + both; index++) between(old[index], now[index], [...path, index], steps);
    if (removed > both) steps.push(["remove", path, start + both, removed - both]);
    if (added > both) steps.push(["insert", path, start + both, now.slice(start + both, start + added)]);
  } else if (isFields(old) && isFields(now)) {
    for (const key of Object.keys(old)) if (!has(now, key)) steps.push(["delete", [...path, key]]);
    for (const key of Object.keys(now)) {
      const value = now[key] as Value;
      if (has(old, key)) between(old[key] as Value, value, [...path, key], steps);
      else steps.push(["set", [...path, key], value]);
    }
  } else {
    steps.push(path.length ? ["set", path, now] : ["all", now]);
  }
  return steps;
}
