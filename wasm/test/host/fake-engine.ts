/**
 * An engine of counters, in the shape of the real one's glue, whose every write is durable before it is answered.
 *
 * Its file is a list of JSON lines; a torn last line is cut off. `add` is done once per (session, id), as every write of the real engine. Some
 * methods misbehave on purpose: they trap, now or later, on a document or without one.
 */
import type { Engine, Host, OpenOptions, Socket } from "../../ts/host/contract.js";
import type { Glue, Timers } from "../../ts/host/engine.js";

interface Line {
  key?: string;
  doc: string;
  add?: number;
  poison?: string;
}

const fail = (code: string, message = code): never => {
  throw { code, message };
};

class FakeEngine implements Engine {
  totals = new Map<string, number>();
  poison = new Map<string, string[]>();
  done = new Map<string, number>();
  sessions = new Map<string, Map<string, number>>();
  /** What each session shows of itself. */
  presence = new Map<string, number>();
  sockets: Socket[] = [];
  waiting = new Set<(why: unknown) => void>();
  isClosed = false;
  constructor(
    readonly timers: Timers,
    readonly options: OpenOptions,
    readonly host: Host,
  ) {
    const { file } = options;
    if (!file) return;
    const bytes = new Uint8Array(file.size());
    file.read(0, bytes);
    const text = new TextDecoder().decode(bytes);
    if (text.startsWith("half")) fail("store_damaged", "not a store");
    if (text.startsWith("newer")) fail("store_newer");
    const end = text.lastIndexOf("\n") + 1;
    for (const line of text.slice(0, end).split("\n")) if (line) this.learn(JSON.parse(line) as Line);
    file.truncate(new TextEncoder().encode(text.slice(0, end)).length);
    if (end === 0) this.write({ doc: "made" });
  }

  learn(line: Line): void {
    if (line.poison) this.poison.set(line.doc, [...(this.poison.get(line.doc) ?? []), line.poison]);
    if (line.add === undefined) return;
    const total = (this.totals.get(line.doc) ?? 0) + line.add;
    this.totals.set(line.doc, total);
    if (line.key) this.done.set(line.key, total);
  }

  write(line: Line): void {
    const file = this.options.file;
    if (!file) return;
    try {
      file.write(file.size(), new TextEncoder().encode(`${JSON.stringify(line)}\n`));
      file.flush();
    } catch (error) {
      if ((error as { code?: string }).code === "quota") fail("store_full");
      throw error;
    }
  }

  attach(session: string): void {
    this.sessions.set(session, new Map());
    this.host.event(session, JSON.stringify({ e: "status", state: "none", pending: 0 }));
  }

  detach(session: string): void {
    this.sessions.delete(session);
    this.presence.delete(session);
  }

  async close(): Promise<void> {
    this.isClosed = true;
    // As the real one does, to whoever still waits.
    for (const end of this.waiting) end({ code: "closed", message: "the engine was closed" });
    this.options.file?.close();
  }

  online(is: boolean): void {
    this.host.event("", JSON.stringify({ e: "status", state: is ? "connecting" : "offline", pending: 0 }));
  }

  async call(session: string, id: number, _acked: number, method: string, json: string, bytes?: Uint8Array): Promise<string | Uint8Array> {
    const args = JSON.parse(json) as never[];
    const call = (this as unknown as Record<string, unknown>)[`do_${method}`] as ((...all: unknown[]) => unknown) | undefined;
    if (!call || this.isClosed) return fail(this.isClosed ? "closed" : "unsupported", method);
    const result = await call.call(this, { session, key: `${session}:${id}`, bytes }, ...args);
    return result instanceof Uint8Array ? result : JSON.stringify(result ?? null);
  }

  do_echo({ bytes }: { bytes?: Uint8Array }, value: unknown): unknown {
    return bytes ? bytes.map((byte) => byte + 1) : value;
  }

  do_add({ key }: { key: string }, doc: string, add: number): unknown {
    const done = this.done.get(key);
    if (done !== undefined) return { total: done };
    const line = { key, doc, add };
    this.write(line);
    this.learn(line);
    for (const [session, watched] of this.sessions) {
      const n = watched.get(doc);
      if (n === undefined) continue;
      watched.set(doc, n + 1);
      this.host.event(session, JSON.stringify({ e: "patch", doc, n: n + 1, patches: [["all", this.totals.get(doc)]] }));
    }
    return { total: this.totals.get(doc) };
  }

  do_open({ session }: { session: string }, doc: string): unknown {
    this.sessions.get(session)?.set(doc, 0);
    return { value: this.do_get({}, doc), n: 0 };
  }

  do_get(_: object, doc: string): number {
    const careful = this.options.suspect?.[0] === doc;
    for (const hash of this.poison.get(doc) ?? []) {
      if (this.options.now_quarantined?.some(([d, h]) => d === doc && h === hash)) continue;
      this.host.working(doc, careful ? hash : null);
      throw new WebAssembly.RuntimeError("unreachable");
    }
    return this.totals.get(doc) ?? 0;
  }

  do_poison(_: object, doc: string, hash: string): void {
    this.write({ doc, poison: hash });
    this.learn({ doc, poison: hash });
  }

  do_trap(): void {
    throw new WebAssembly.RuntimeError("unreachable");
  }

  do_trapLater(_: object, ms: number): void {
    this.timers.setTimeout(() => {
      throw new WebAssembly.RuntimeError("unreachable");
    }, ms);
  }

  do_refuse(_: object, code: string): void {
    fail(code);
  }

  do_wait(_: object, ms: number): Promise<string> {
    return new Promise((resolve, reject) => {
      this.waiting.add(reject);
      this.timers.setTimeout(() => {
        this.waiting.delete(reject);
        resolve("waited");
      }, ms);
    });
  }

  do_sessions(): number {
    return this.sessions.size;
  }

  do_show({ session }: { session: string }, value: number): void {
    this.presence.set(session, value);
  }

  do_shown(): number[] {
    return [...this.presence.values()].sort();
  }

  do_signOut(_: object, refusal?: string): void {
    if (refusal) fail(refusal);
  }

  do_status(): unknown {
    return { state: "none", pending: 0 };
  }

  do_fill(_: object, bytes: number): void {
    const { file } = this.options;
    try {
      file?.write(file.size(), new Uint8Array(bytes).fill(10));
    } catch {
      fail("store_full");
    }
  }

  do_connect({ session }: { session: string }, url: string): void {
    const tell = (what: unknown): void => this.host.event(session, JSON.stringify({ e: "socket", what }));
    const socket = this.host.socket(url, ["rejoin.v1"], {
      open: (protocol) => {
        tell(`open ${protocol}`);
        socket.send(new Uint8Array([1, 2, 3]));
      },
      message: (data) => tell(data && Array.from(data)),
      close: (code) => tell(`close ${code}`),
    });
    this.sockets.push(socket);
  }
}

/** The glue of one instance, as the build makes it of the real one's. */
export function makeGlue(timers: Timers): Glue {
  return {
    default: async () => {},
    Engine: { open: async (options, host) => new FakeEngine(timers, options, host) },
  };
}
