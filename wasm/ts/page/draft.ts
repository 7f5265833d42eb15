/**
 * Drafts: what `doc.change` hands out. Reads show the draft's own edits; each write becomes one small op, so that what others change meanwhile
 * merges.
 */
import { RejoinError } from "./errors.js";
import type { Tagged, WireOp, WirePath } from "./link.js";
import type { Editor, Step } from "./snapshot.js";
import { Counter, counted, decode, encode, equal, type Fields, has, isNode, type List, thaw, type Value } from "./values.js";

/** What an edit consists of: as the engine takes it, and as the page shows it meanwhile. */
export interface Edit {
  ops: WireOp[];
  steps: Step[];
}

type Parts = Record<string | number, Value>;
type Key = string | number;

/** What a draft's proxy stands for. */
const nodes = new WeakMap<object, Node>();

/** Puts what a draft's proxy stands for in its place. */
export function unwrap(value: unknown): unknown {
  if (value instanceof BoundCounter) return counted(value.value);
  return (typeof value === "object" && value !== null && nodes.get(value)?.value) || value;
}

/** Records what a function does to a draft. It is applied to the editor step by step, also if the function then throws. */
export function record(editor: Editor, change: (draft: never) => unknown): Edit {
  const draft: Draft = { ops: [], steps: [], over: false, editor };
  const node = new Node(draft, editor.root as Fields);
  try {
    const result = change(node.proxy as never);
    if (typeof (result as PromiseLike<unknown> | undefined)?.then === "function") {
      throw new RejoinError("bad_argument", "the function given to change must not be async: wait first, then change");
    }
  } finally {
    draft.over = true;
  }
  return draft;
}

interface Draft extends Edit {
  readonly editor: Editor;
  over: boolean;
}

/** A map or list of a draft. It knows its place, which moves when elements come and go before it. */
class Node {
  readonly draft: Draft;
  readonly proxy: object;
  #parent: Node | undefined;
  #key: Key = "";
  #gone = false;
  readonly #children = new Map<Key, Node | BoundCounter>();

  constructor(draft: Draft, value: Fields | List, parent?: Node, key: Key = "") {
    this.draft = draft;
    this.#parent = parent;
    this.#key = key;
    // The target is empty, since a proxy must not contradict a frozen one; it only tells lists from maps.
    this.proxy = new Proxy(Array.isArray(value) ? [] : {}, Array.isArray(value) ? listTraps(this) : fieldsTraps(this));
    nodes.set(this.proxy, this);
  }

  /** What it is now. Every step may make another object of it. */
  get value(): Fields | List {
    this.#alive();
    return (this.#parent ? (this.#parent.value as unknown as Parts)[this.#key] : this.draft.editor.root) as Fields | List;
  }

  get list(): List {
    return this.value as List;
  }

  /** Reads what is at a key: a proxy, a counter to be incremented, or the value itself. */
  read(key: Key): unknown {
    const value = (this.value as unknown as Parts)[key] as Value;
    // A date or bytes that somebody changes is changed when it is assigned.
    if (!isNode(value) && !(value instanceof Counter)) return thaw(value);
    let child = this.#children.get(key);
    if (!child) {
      child = isNode(value) ? new Node(this.draft, value, this, key) : new BoundCounter(this, key);
      this.#children.set(key, child);
    }
    return child instanceof Node ? child.proxy : child;
  }

  set(key: Key, value: unknown): void {
    const old = has(this.value, String(key)) ? (this.value as unknown as Parts)[key] : undefined;
    // Assigning what is there is no change.
    if (old !== undefined && (Object.is(old, value) || (typeof value === "object" && value !== null && (equal(old, value) || this.read(key) === value)))) return;
    const path = this.path(key);
    const [tagged, copy] = take(value, path);
    this.#write(["set", path, tagged], ["set", path, copy]);
    this.#detach(key);
  }

  delete(key: string): void {
    const path = this.path(key);
    this.#write(["delete", path], ["delete", path]);
    this.#detach(key);
  }

  increment(key: Key, by: number): void {
    if (!Number.isSafeInteger(by)) throw new RejoinError("bad_argument", "a counter counts in integers");
    const path = this.path(key);
    this.#write(["increment", path, by], ["increment", path, by]);
  }

  insert(index: number, values: readonly unknown[]): void {
    if (!values.length) return;
    const path = this.path();
    const taken = values.map((value, offset) => take(value, [...path, index + offset]));
    const copies = taken.map(([, copy]) => copy);
    this.#write(["insert", path, index, taken.map(([tagged]) => tagged)], ["insert", path, index, copies]);
    this.#move(index, 0, values.length);
  }

  remove(index: number, count: number): void {
    if (!count) return;
    const path = this.path();
    this.#write(["remove", path, index, count], ["remove", path, index, count]);
    this.#move(index, count, 0);
  }

  path(...keys: Key[]): WirePath {
    this.#alive();
    return this.#parent ? this.#parent.path(this.#key, ...keys) : keys;
  }

  #alive(): void {
    if (this.draft.over) throw new RejoinError("closed", "a draft cannot be used after the function that got it has returned");
    if (this.#gone) throw new RejoinError("gone", "this part was deleted or replaced in the same change");
  }

  #write(op: WireOp, step: Step): void {
    if (!this.draft.editor.apply(step)) throw new RejoinError("internal", "a draft and its editor are not the same");
    this.draft.ops.push(op);
    this.draft.steps.push(step);
  }

  #detach(key: Key): void {
    const child = this.#children.get(key);
    if (child instanceof Node) child.#gone = true;
    this.#children.delete(key);
  }

  #move(index: number, removed: number, added: number): void {
    for (let key = index; key < index + removed; key++) this.#detach(key);
    const after = [...this.#children].filter(([key]) => (key as number) >= index + removed);
    for (const [key] of after) this.#children.delete(key);
    for (const [key, child] of after) {
      const moved = (key as number) - removed + added;
      if (child instanceof Node) child.#key = moved;
      else child.key = moved;
      this.#children.set(moved, child);
    }
  }
}

/** Encodes what is written and decodes it again: a copy that nobody else holds, and that looks as the engine will tell it. */
function take(value: unknown, path: WirePath): [tagged: Tagged, copy: Value] {
  const tagged = encode(value, path.join(".") || "the value", unwrap);
  return [tagged, decode(tagged)];
}

/** A counter of a draft. */
class BoundCounter extends Counter {
  constructor(
    readonly node: Node,
    public key: Key,
  ) {
    super();
    // The value is read when asked for, since increments come between.
    Object.defineProperty(this, "value", { get: () => ((node.value as unknown as Parts)[this.key] as Counter).value, enumerable: true });
  }

  override increment(by = 1): void {
    this.node.increment(this.key, by);
  }

  override decrement(by = 1): void {
    this.node.increment(this.key, -by);
  }
}

const shared = {
  defineProperty(): boolean {
    throw new RejoinError("bad_argument", "properties of a draft cannot be defined, only assigned");
  },
  setPrototypeOf(): boolean {
    throw new RejoinError("bad_argument", "the prototype of a draft cannot be set");
  },
};

const property = (value: unknown): PropertyDescriptor => ({ value, writable: true, enumerable: true, configurable: true });

function fieldsTraps(node: Node): ProxyHandler<object> {
  return {
    ...shared,
    get: (_, key) => (typeof key === "string" && has(node.value, key) ? node.read(key) : Reflect.get(Object.prototype, key)),
    has: (_, key) => typeof key === "string" && has(node.value, key),
    set(_, key, value) {
      if (typeof key !== "string") throw new RejoinError("bad_argument", "a key must be a string");
      node.set(key, value);
      return true;
    },
    deleteProperty(_, key) {
      if (typeof key === "string" && has(node.value, key)) node.delete(key);
      return true;
    },
    ownKeys: () => Object.keys(node.value),
    getOwnPropertyDescriptor: (_, key) => (typeof key === "string" && has(node.value, key) ? property(node.read(key)) : undefined),
  };
}

const indexOf = (key: string | symbol): number | undefined => (typeof key === "string" && /^(0|[1-9]\d*)$/.test(key) ? Number(key) : undefined);

/** Array methods that would rewrite the whole list, and what to do instead. */
const REFUSED = new Set<string | symbol>(["sort", "reverse", "copyWithin"]);

function listTraps(node: Node): ProxyHandler<object> {
  const methods: Record<string, (...args: never[]) => unknown> = {
    push(...values: unknown[]) {
      node.insert(node.list.length, values);
      return node.list.length;
    },
    unshift(...values: unknown[]) {
      node.insert(0, values);
      return node.list.length;
    },
    pop() {
      const last = node.list[node.list.length - 1];
      if (node.list.length) node.remove(node.list.length - 1, 1);
      return last && thaw(last);
    },
    shift() {
      const first = node.list[0];
      if (node.list.length) node.remove(0, 1);
      return first && thaw(first);
    },
    splice(...args: [start?: number, deleteCount?: number, ...values: unknown[]]) {
      const { length } = node.list;
      const whole = (value: unknown): number => Math.trunc(Number(value)) || 0;
      const start = whole(args[0]);
      const index = start < 0 ? Math.max(0, length + start) : Math.min(start, length);
      const wanted = args.length === 0 ? 0 : args.length === 1 ? length : whole(args[1]);
      const count = Math.max(0, Math.min(wanted, length - index));
      const removed = node.list.slice(index, index + count);
      node.remove(index, count);
      node.insert(index, args.slice(2));
      return removed.map(thaw);
    },
  };
  return {
    ...shared,
    get(_, key) {
      const index = indexOf(key);
      if (index !== undefined) return node.read(index);
      if (key === "length") return node.list.length;
      if (typeof key === "string" && has(methods, key)) return methods[key];
      if (REFUSED.has(key)) {
        throw new RejoinError("unsupported", `${String(key)} would replace the whole list, also what others add meanwhile: sort a copy to show it, or splice what moves`);
      }
      return Reflect.get(Array.prototype, key);
    },
    has(_, key) {
      const index = indexOf(key);
      return index !== undefined ? index < node.list.length : key in Array.prototype;
    },
    set(_, key, value) {
      const index = indexOf(key);
      const { length } = node.list;
      if (index !== undefined && index < length) node.set(index, value);
      else if (index === length) node.insert(length, [value]);
      else if (key === "length" && Number.isSafeInteger(value) && value >= 0 && value <= length) node.remove(value, length - value);
      else throw new RejoinError("bad_argument", `${String(key)} of a list cannot be set: a list has no holes and no keys but its indices`);
      return true;
    },
    deleteProperty() {
      throw new RejoinError("unsupported", "an element cannot be deleted from a list, which has no holes: use splice");
    },
    ownKeys: () => [...Object.keys(node.list), "length"],
    getOwnPropertyDescriptor(_, key) {
      if (key === "length") return { value: node.list.length, writable: true, enumerable: false, configurable: false };
      const index = indexOf(key);
      return index !== undefined && index < node.list.length ? property(node.read(index)) : undefined;
    },
  };
}
