/**
 * Engines that really merge one text: a replicated growable array, computed anew for each question, behind the seam of the package's page side.
 *
 * Each page has an engine of its own. Nothing moves but by `up` (a request reaches the engine), `down` (an answer or event reaches the page) and
 * `Net.sync` (the engines exchange their changes), so a test decides about every interleaving.
 */
import type { EngineEvent, Link, Tagged } from "rejoin";

type WirePatch = Extract<EngineEvent, { e: "patch" }>["patches"][number];

/** Ids of a page's own edits: one by one, or a row of them by its first and last. */
type WireIds = (number | [first: number, last: number])[];
type WireOp = ["splice", unknown, number, number, string] | ["update", unknown, string];

export const PATH = ["cards", "a", "note"];

interface Char {
  id: string;
  counter: number;
  actor: string;
  after: string;
  text: string;
}

interface Change {
  hash: string;
  inserted: Char[];
  deleted: string[];
}

type Version = ReadonlySet<Change>;

/** The characters of a version in their order: those after the same one by falling counter and actor. */
function read(version: Version, withDeleted = false): Char[] {
  const after = new Map<string, Char[]>();
  const gone = new Set<string>();
  for (const { inserted, deleted } of version) {
    for (const char of inserted) after.set(char.after, [...(after.get(char.after) ?? []), char]);
    for (const id of deleted) gone.add(id);
  }
  const chars: Char[] = [];
  const stack = [""];
  const all = new Map<string, Char>();
  while (stack.length) {
    const id = stack.pop() as string;
    const char = all.get(id);
    if (char && (withDeleted || !gone.has(id))) chars.push(char);
    const next = (after.get(id) ?? []).sort((a, b) => a.counter - b.counter || (a.actor < b.actor ? -1 : 1));
    for (const child of next) {
      all.set(child.id, child);
      stack.push(child.id);
    }
  }
  return chars;
}

const string = (chars: readonly Char[]): string => chars.map(({ text }) => text).join("");

/** The splices that lead from some characters to others, as an engine tells them. */
function splices(old: readonly Char[], now: readonly Char[]): [number, number, string][] {
  const kept = new Set(now.map(({ id }) => id));
  const known = new Set(old.map(({ id }) => id));
  const found: [number, number, string][] = [];
  let [o, at] = [0, 0];
  for (const char of [...now, undefined]) {
    while (o < old.length && !kept.has((old[o] as Char).id)) {
      found.push([at, 1, ""]);
      o++;
    }
    if (char && !known.has(char.id)) found.push([at, 0, char.text]);
    else o++;
    at++;
  }
  return found;
}

export class Net {
  engines: MergingEngine[] = [];
  id = "";
  presences: { author: string; key: string; value: Tagged; since: number }[] = [];

  /** Every engine gets every change. */
  sync(): void {
    const all = new Set(this.engines.flatMap(({ changes }) => [...changes]));
    for (const engine of this.engines) engine.take(all);
  }

  /** Moves everything until nothing is left to move. */
  async settle(): Promise<void> {
    for (let busy = true; busy; ) {
      this.sync();
      busy = false;
      for (const { link } of this.engines) while (link.up() || link.down()) busy = true;
      for (let n = 0; n < 10; n++) await Promise.resolve();
      busy ||= this.engines.some(({ link }) => link.isBusy);
    }
  }

  tellPresence(): void {
    for (const { link } of this.engines) {
      link.tell({ e: "presence", doc: this.id, values: this.presences.map((value) => ({ ...value, own: value.author === link.session })) });
    }
  }
}

let sessions = 0;

export class MergingEngine {
  readonly link: HeldLink;
  readonly session = (++sessions).toString(16).padStart(32, "0");
  changes: Version = new Set();
  #versions = new Map<string, Version>();
  #own = new Map<number, Version>();
  #n = 0;
  #upTo = 0;
  #isWatched = false;
  readonly net: Net;

  constructor(net: Net) {
    this.net = net;
    this.link = new HeldLink(this);
    net.engines.push(this);
  }

  get text(): string {
    return string(read(this.changes));
  }

  get heads(): string[] {
    const name = [...this.changes].map(({ hash }) => hash).sort().join(",");
    this.#versions.set(name, this.changes);
    return name ? [name] : [];
  }

  take(changes: Version): void {
    if (changes.size > this.changes.size) this.#advance(new Set([...this.changes, ...changes]), "remote");
  }

  /** The store is read again: the whole value is told. */
  rewrite(): void {
    this.#tell("remote", [["all", this.value]]);
  }

  get value(): Tagged {
    return { cards: { a: { note: this.text } } };
  }

  #advance(to: Version, origin: "local" | "remote"): void {
    const patches = splices(read(this.changes), read(to)).map((splice): WirePatch => ["splice", [...PATH], ...splice]);
    this.changes = to;
    this.#tell(origin, patches);
  }

  #tell(origin: "local" | "remote", patches: WirePatch[]): void {
    if (this.#isWatched) this.link.tell({ e: "patch", doc: this.net.id, n: ++this.#n, heads: this.heads, upTo: this.#upTo, origin, patches });
  }

  /** The state that a page means: heads, and its own edits on top, by their ids or by rows of them. */
  #state(base: { heads: string[]; own: WireIds }): Version {
    const ids = base.own.flatMap((row) => (typeof row === "number" ? [row] : Array.from({ length: row[1] - row[0] + 1 }, (_, more) => row[0] + more)));
    return new Set([base.heads.flatMap((head) => [...(this.#versions.get(head) as Version)]), ids.flatMap((own) => [...(this.#own.get(own) ?? [])])].flat());
  }

  #write(base: Version, ops: WireOp[]): Change {
    const change: Change = { hash: `${this.session}-${this.changes.size}`, inserted: [], deleted: [] };
    let counter = Math.max(0, ...[...this.changes].flatMap(({ inserted }) => inserted.map((char) => char.counter)));
    const version = new Set([...base, change]);
    for (const op of ops) {
      const chars = read(version);
      if (op[0] === "update") throw { code: "unsupported", message: "an editor knows what it changes" };
      const [, , index, deleteCount, insert] = op;
      if (index + deleteCount > chars.length) throw { code: "wrong_path", message: "beyond the end" };
      change.deleted.push(...chars.slice(index, index + deleteCount).map(({ id }) => id));
      let after = chars[index - 1]?.id ?? "";
      for (const text of insert.split("")) {
        const id = `${++counter}@${this.session}`;
        change.inserted.push({ id, counter, actor: this.session, after, text });
        after = id;
      }
    }
    return change;
  }

  answer(id: number, method: string, args: unknown[]): unknown {
    switch (method) {
      case "create":
        this.net.id = args[0] as string;
        this.#advance(new Set([this.#write(new Set(), [["splice", PATH, 0, 0, (args[2] as any).cards.a.note.$text]])]), "local");
        this.net.sync();
        return { change: "first" };
      case "open":
        this.#isWatched = true;
        return { heads: this.heads, value: this.value, space: null, pending: 0, n: this.#n, upTo: this.#upTo };
      case "edit": {
        const [, base, ops] = args as [string, { heads: string[]; own: WireIds }, WireOp[]];
        const at = this.#state(base);
        const change = this.#write(at, ops);
        this.#own.set(id, new Set([...at, change]));
        this.#upTo = id;
        this.#advance(new Set([...this.changes, change]), "local");
        return { change: change.hash };
      }
      case "cursor": {
        const [, , index, base] = args as [string, unknown, number, { heads: string[]; own: WireIds }];
        const at = this.#state(base);
        return read(at)[index]?.id ?? "end";
      }
      case "position": {
        if (args[2] === "end") return this.text.length;
        const all = read(this.changes, true);
        const index = all.findIndex((char) => char.id === args[2]);
        if (index < 0) throw { code: "not_found", message: "no such character yet" };
        const visible = new Set(read(this.changes));
        return all.slice(0, index).filter((char) => visible.has(char)).length;
      }
      case "presenceSet":
      case "presenceClear": {
        const left = this.net.presences.filter(({ author, key }) => author !== this.session || key !== args[1]);
        if (method === "presenceSet") left.push({ author: this.session, key: args[1] as string, value: args[2] as Tagged, since: 1 });
        this.net.presences = left;
        this.net.tellPresence();
        return null;
      }
      case "presenceWatch":
        return this.net.presences.map((value) => ({ ...value, own: value.author === this.session }));
      case "status":
        return { state: "none", pending: 0, storage: "memory" };
      default:
        return null;
    }
  }
}

/** A link on which messages move in their order, when the test lets them. */
export class HeldLink implements Link {
  readonly session: string;
  /** The next edits fail with these codes. */
  failures: string[] = [];
  readonly #engine: MergingEngine;
  #ids = 0;
  #handler: (event: EngineEvent) => void = () => {};
  #up: (() => void)[] = [];
  #down: (() => void)[] = [];

  constructor(engine: MergingEngine) {
    this.#engine = engine;
    this.session = engine.session;
  }

  get isBusy(): boolean {
    return this.#up.length + this.#down.length > 0;
  }

  request(method: string, args: unknown[]): { id: number; result: Promise<unknown> } {
    const id = ++this.#ids;
    const sent = JSON.parse(JSON.stringify(args)) as unknown[];
    const result = new Promise<unknown>((resolve, reject) => {
      this.#up.push(() => {
        try {
          if (method === "edit" && this.failures.length) throw { code: this.failures.shift(), message: "as the test wants" };
          const answer = this.#engine.answer(id, method, sent);
          this.#down.push(() => resolve(answer));
        } catch (error) {
          this.#down.push(() => reject(error as Error));
        }
      });
    });
    return { id, result };
  }

  onEvent(handler: (event: EngineEvent) => void): void {
    this.#handler = handler;
  }

  async close(): Promise<void> {}

  up(): boolean {
    const next = this.#up.shift();
    next?.();
    return !!next;
  }

  down(): boolean {
    const next = this.#down.shift();
    next?.();
    return !!next;
  }

  tell(event: EngineEvent): void {
    const copy = JSON.parse(JSON.stringify(event)) as EngineEvent;
    this.#down.push(() => this.#handler(copy));
  }
}
