/**
 * An engine of a hundred lines, in memory, and links to it whose messages the test can hold back: enough to see what the page does with what it
 * is told. It merges nothing: an edit is made to fit the state it meets.
 */
import type { EngineEvent, Link, Tagged, WireOp, WirePatch, WirePath, WireStatus } from "../../ts/page/link.js";
import { at, between, clamp, Editor, type Step } from "../../ts/page/snapshot.js";
import type { SpaceRights } from "../../ts/page/space.js";
import { decode, encode, type Value } from "../../ts/page/values.js";

interface Version {
  hash: string;
  value: Value;
  message: string | null;
  time: number;
  deps: string[];
}

interface Mark {
  path: string;
  start: number;
  end: number;
  name: string;
  value: Tagged;
}

class FakeDoc {
  value: Value = {};
  versions: Version[] = [];
  marks: Mark[] = [];
  space: string | null = null;
  /** Session to the number of the last patch told. */
  watchers = new Map<string, number>();
  /** Session to its greatest edit. */
  upTo = new Map<string, number>();

  get heads(): string[] {
    return this.versions.slice(-1).map(({ hash }) => hash);
  }
}

const wire = (value: unknown): Tagged => encode(value);
const BLOCK = "\uFFFC";

/** The step of an op, and the patch it is told by. */
function stepOf(op: WireOp, value: Value): Step {
  switch (op[0]) {
    case "set":
      return ["set", op[1], decode(op[2])];
    case "insert":
      return ["insert", op[1], op[2], op[3].map(decode)];
    case "update":
      return ["set", op[1], op[2]];
    case "split":
      return ["splice", op[1], op[2], 0, BLOCK];
    case "join":
      return ["splice", op[1], op[2], 1, ""];
    case "mark":
    case "unmark":
    case "block":
      return ["mark", op[1]];
    default:
      return clamp(value, op) ?? ["mark", []];
  }
}

function patchOf(step: Step): WirePatch {
  if (step[0] === "set") return ["set", step[1], wire(step[2])];
  if (step[0] === "insert") return ["insert", step[1], step[2], step[3].map(wire)];
  if (step[0] === "all") return ["all", wire(step[1])];
  return step;
}

export class FakeEngine {
  docs = new Map<string, FakeDoc>();
  deleted = new Set<string>();
  follows = new Map<string, string>();
  rights = new Map<string, SpaceRights>();
  links = new Set<FakeLink>();
  presences = new Map<string, { author: string; key: string; value: Tagged; own: boolean; since: number }[]>();
  status: WireStatus = { state: "none", pending: 0, storage: "memory" };
  rejections: { doc: string; change: string; code: string; text: string }[] = [];
  calls: [method: string, ...args: unknown[]][] = [];
  /** The next edits fail with these codes. */
  failures: string[] = [];
  #hashes = 0;
  /** Answers by session and id: a request that is sent again is done once. */
  #done = new Map<string, { value?: unknown; error?: unknown }>();

  answer(link: FakeLink, id: number, method: string, args: unknown[], bytes?: Uint8Array): { value?: unknown; error?: unknown } {
    const name = `${link.session} ${id}`;
    // A watch is this engine's own affair, not a write.
    let answer = method === "open" ? undefined : this.#done.get(name);
    if (!answer) {
      try {
        this.calls.push([method, ...args]);
        answer = { value: this.#call(link, id, method, args as never[], bytes) };
      } catch (error) {
        answer = { error };
      }
      this.#done.set(name, answer);
    }
    return answer;
  }

  /** Another engine takes over: same store unless it is lost, and it knows of no watches. */
  restart(lost = false): void {
    if (lost) this.docs.clear();
    for (const doc of this.docs.values()) doc.watchers.clear();
    for (const link of this.links) link.restart(lost);
  }

  /** The relay says what may be done in a space. */
  grant(space: string, rights: SpaceRights): void {
    this.rights.set(space, rights);
    this.tell({ e: "space", space });
  }

  /** Somebody else edits. */
  remote(id: string, ...ops: WireOp[]): void {
    this.#apply(this.#doc(id), id, ops, {}, undefined);
  }

  tell(event: EngineEvent): void {
    for (const link of this.links) link.tell(event);
  }

  #doc(id: string): FakeDoc {
    if (this.deleted.has(id)) throw { code: "deleted", message: "the document was deleted" };
    const doc = this.docs.get(id);
    if (!doc) throw { code: "not_found", message: "no such document" };
    return doc;
  }

  #make(id: string, value: Value, space: string | null = null, versions: Version[] = []): FakeDoc {
    const doc = new FakeDoc();
    doc.value = value;
    doc.space = space;
    doc.versions = [...versions];
    if (!versions.length) this.#version(doc, {});
    this.docs.set(id, doc);
    this.tell({ e: "list" });
    if (space) this.tell({ e: "space", space });
    return doc;
  }

  #version(doc: FakeDoc, options: { message?: string; time?: number }): string {
    const hash = (++this.#hashes).toString(16).padStart(64, "0");
    doc.versions.push({ hash, value: doc.value, message: options.message ?? null, time: options.time ?? Date.now(), deps: doc.heads });
    return hash;
  }

  #apply(doc: FakeDoc, id: string, ops: WireOp[], options: object, own: { session: string; id: number } | undefined): string {
    const editor = new Editor(doc.value);
    const patches: WirePatch[] = [];
    for (const op of ops) {
      const step = stepOf(op, editor.root);
      const fitting = clamp(editor.root, step);
      if (!fitting || !editor.apply(fitting)) {
        if (own && op[0] !== "delete" && op[1].every((key) => typeof key === "string")) throw { code: "wrong_path", message: `no ${op[1].join(".")}` };
        continue;
      }
      this.#mark(doc, op);
      patches.push(patchOf(fitting));
    }
    doc.value = editor.finish();
    const hash = this.#version(doc, options);
    if (own) doc.upTo.set(own.session, own.id);
    for (const link of this.links) {
      const n = doc.watchers.get(link.session);
      if (n === undefined) continue;
      doc.watchers.set(link.session, n + 1);
      const origin = own?.session === link.session ? "local" : "remote";
      link.tell({ e: "patch", doc: id, n: n + 1, heads: doc.heads, upTo: doc.upTo.get(link.session) ?? 0, origin, patches });
    }
    return hash;
  }

  #mark(doc: FakeDoc, op: WireOp): void {
    const path = JSON.stringify(op[1]);
    if (op[0] === "mark") doc.marks.push({ path, start: op[2], end: op[3], name: op[4], value: op[5] });
    if (op[0] === "unmark") doc.marks = doc.marks.filter((mark) => mark.path !== path || mark.name !== op[4]);
  }

  #call(link: FakeLink, request: number, method: string, args: never[], bytes?: Uint8Array): unknown {
    const [id, second, third] = args as unknown as [string, unknown, unknown];
    const read = (path: unknown): Tagged => wire(at(this.#doc(id).value, path as WirePath) ?? null);
    switch (method) {
      case "create":
        if (this.failures.length) throw { code: this.failures.shift(), message: "as the test wants" };
        return { change: this.#make(id, decode(third as Tagged), second as string | null).heads[0] };
      case "open": {
        if (this.deleted.has(id)) throw { code: "deleted", message: "the document was deleted" };
        const found = this.docs.get(id) ?? (second ? Object.assign(new FakeDoc(), {}) : undefined);
        if (!found) return null;
        this.docs.set(id, found);
        const n = found.watchers.get(link.session) ?? 0;
        found.watchers.set(link.session, n);
        return { heads: found.heads, value: wire(found.value), space: found.space, pending: 0, n };
      }
      case "close":
        this.docs.get(id)?.watchers.delete(link.session);
        return null;
      case "wait":
        if (!this.#doc(id).heads.length) throw { code: "timeout", message: "nothing came" };
        return null;
      case "edit": {
        if (this.failures.length) throw { code: this.failures.shift(), message: "as the test wants" };
        const [, , ops, options] = args as unknown as [string, unknown, WireOp[], object];
        return { change: this.#apply(this.#doc(id), id, ops, options, { session: link.session, id: request }) };
      }
      case "get":
        return read(second);
      case "conflicts":
        return [{ id: "1@aa", value: read(second) }];
      case "marks":
        return this.#doc(id).marks.filter(({ path }) => path === JSON.stringify(second)).map(({ path: _, ...mark }) => mark);
      case "spans":
        return [{ text: read(second), marks: {} }];
      case "cursor":
        return JSON.stringify([this.#doc(id).versions.length, third]);
      case "position": {
        // As far as the length of what stands before has changed: enough for one insertion.
        const [version, index] = JSON.parse(third as string) as [number, number];
        const before = at(this.#doc(id).versions[version - 1]?.value, second as WirePath) as string;
        return index + (read(second) as string).length - before.length;
      }
      case "history":
        return this.#doc(id).versions.map(({ hash, deps, time, message }, seq) => ({ hash, deps, actor: "aa", author: null, seq: seq + 1, time, message, ops: 1 }));
      case "at":
        return wire(at(this.#at(id, second as string[]), (third as WirePath | null) ?? []));
      case "diff":
        return between(this.#at(id, second as string[]), this.#at(id, third as string[])).map(patchOf);
      case "restore": {
        const doc = this.#doc(id);
        const steps = between(doc.value, this.#at(id, second as string[]));
        return { change: this.#apply(doc, id, steps.map(patchOf) as WireOp[], {}, undefined) };
      }
      case "fork":
        this.#make(second as string, this.#doc(id).value, null, this.#doc(id).versions);
        return null;
      case "merge": {
        const [doc, other] = [this.#doc(id), this.#doc(second as string)];
        const count = other.versions.filter(({ hash }) => !doc.versions.some((version) => version.hash === hash)).length;
        this.#apply(doc, id, between(doc.value, other.value).map(patchOf) as WireOp[], {}, undefined);
        return count;
      }
      case "export":
        return new TextEncoder().encode(JSON.stringify(wire(this.#doc(id).value)));
      case "import":
        this.#make(id, decode(JSON.parse(new TextDecoder().decode(bytes)) as Tagged));
        return null;
      case "list":
        return [...this.docs.keys()];
      case "delete":
      case "deleteEverywhere":
        this.docs.delete(id);
        // What is deleted here only may come again.
        if (method === "deleteEverywhere") this.deleted.add(id);
        this.tell({ e: "doc", doc: id, kind: "deleted" });
        this.tell({ e: "list" });
        return null;
      case "spaceList":
        return [...this.docs].filter(([, { space }]) => space === id).map(([doc]) => doc);
      case "follow":
        if (second === null) this.follows.delete(id);
        else this.follows.set(id, second as string);
        return null;
      case "following":
        return this.follows.get(id) ?? null;
      case "spaceRights":
        return this.rights.get(id) ?? "unknown";
      case "spaceUnfetched":
      case "branches":
        return [];
      case "pending":
        return 0;
      case "receipt":
        return "relayed";
      case "rejected":
        return this.rejections;
      case "retry":
      case "dropRejected": {
        const found = this.rejections.find(({ change }) => change === second);
        this.rejections = this.rejections.filter((rejection) => rejection !== found);
        return method === "retry" ? null : { ...found, number: 1, changes: 1 };
      }
      case "exportBranch":
        return new Uint8Array([1, 2, 3]);
      case "persist":
        return true;
      case "status":
        return this.status;
      case "presenceSet":
      case "presenceClear": {
        const left = (this.presences.get(id) ?? []).filter(({ author, key }) => author !== link.session || key !== second);
        if (method === "presenceSet") left.push({ author: link.session, key: second as string, value: third as Tagged, own: true, since: 1 });
        this.presences.set(id, left);
        this.tell({ e: "presence", doc: id, values: left });
        return null;
      }
      case "presenceWatch":
        return this.presences.get(id) ?? [];
      case "reached":
      case "synced":
      case "signOut":
      case "connect":
      case "renewToken":
      case "setToken":
      case "setOffline":
      case "presenceUnwatch":
      case "forgetBranch":
        return null;
      default:
        throw { code: "internal", message: `no such method: ${method}` };
    }
  }

  #at(id: string, heads: string[]): Value {
    const version = this.#doc(id).versions.find(({ hash }) => hash === heads[0]);
    if (!version) throw { code: "unknown_heads", message: "no such heads" };
    return version.value;
  }
}

interface Asked {
  id: number;
  method: string;
  args: unknown[];
  bytes: Uint8Array | undefined;
  resolve: (value: unknown) => void;
  reject: (error: unknown) => void;
}

let sessions = 0;

/** A link whose messages arrive in order: at once, or when the test lets them. */
export class FakeLink implements Link {
  readonly session = (++sessions).toString(16).padStart(32, "0");
  readonly held: boolean;
  closed = false;
  #engine: FakeEngine;
  #ids = 0;
  #handler: (event: EngineEvent) => void = () => {};
  #unanswered = new Map<number, Asked>();
  #up: Asked[] = [];
  #down: (() => void)[] = [];

  /** `held`: nothing moves but by {@link up} and {@link down}. */
  constructor(engine: FakeEngine, held = false) {
    this.#engine = engine;
    this.held = held;
    engine.links.add(this);
  }

  request(method: string, args: unknown[], bytes?: Uint8Array): { id: number; result: Promise<unknown> } {
    const id = ++this.#ids;
    const result = new Promise<unknown>((resolve, reject) => {
      // What is sent must survive JSON.
      const asked: Asked = { id, method, args: JSON.parse(JSON.stringify(args)) as unknown[], bytes, resolve, reject };
      this.#unanswered.set(id, asked);
      this.#up.push(asked);
    });
    if (!this.held) queueMicrotask(() => this.up());
    return { id, result };
  }

  onEvent(handler: (event: EngineEvent) => void): void {
    this.#handler = handler;
  }

  async close(): Promise<void> {
    this.closed = true;
    this.#engine.links.delete(this);
  }

  /** One request reaches the engine. */
  up(): boolean {
    const asked = this.#up.shift();
    if (!asked) return false;
    const { value, error } = this.#engine.answer(this, asked.id, asked.method, asked.args, asked.bytes);
    this.#send(() => {
      if (!this.#unanswered.delete(asked.id)) return;
      if (error !== undefined) asked.reject(error);
      else asked.resolve(value instanceof Uint8Array ? value : JSON.parse(JSON.stringify(value ?? null)));
    });
    return true;
  }

  /** One message reaches the page. */
  down(): boolean {
    const message = this.#down.shift();
    message?.();
    return message !== undefined;
  }

  /** Everything moves, and what it causes, for some rounds. */
  async pump(): Promise<void> {
    for (let round = 0; round < 12; round++) {
      while (this.up() || this.down());
      await turn();
    }
  }

  tell(event: EngineEvent): void {
    const copy = JSON.parse(JSON.stringify(event)) as EngineEvent;
    this.#send(() => this.#handler(copy));
  }

  restart(lost = false): void {
    this.#down = [];
    this.#up = [...this.#unanswered.values()];
    this.tell({ e: "engine", ...(lost && { lost }) });
    if (!this.held) for (const _ of this.#up) queueMicrotask(() => this.up());
  }

  #send(message: () => void): void {
    this.#down.push(message);
    if (!this.held) queueMicrotask(() => this.down());
  }
}

/** Lets every promise that can settle do so. */
export const turn = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 0));
