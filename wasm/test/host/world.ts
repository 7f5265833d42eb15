/** A browser of several tabs in one process: Web Locks, BroadcastChannels, and a file per store that only one may have open. */
import { engineLoader } from "../../ts/host/engine.js";
import { Tab, type Around, type Channel, type Locks } from "../../ts/host/leader.js";
import { PageLink } from "../../ts/host/link.js";
import { MemoryFile } from "../../ts/host/memory.js";
import type { ChangeName, Place, StoreFiles } from "../../ts/host/contract.js";
import type { LinkOptions } from "../../ts/page/link.js";
import type { Peer } from "../../ts/host/peer.js";
import type { Start, ToPage, ToWorker } from "../../ts/host/messages.js";
import { makeGlue } from "./fake-engine.js";

const later = (task: () => void): void => void setImmediate(task);

/** The smallest WASM module there is; the fake engine has no use for it. */
export const noWasm = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0]);

interface Ask {
  owner: object;
  held: () => Promise<void> | void;
  done: (value?: unknown) => void;
  signal: AbortSignal | undefined;
}

/** The disk and the browser process. */
export class World {
  locks = new Map<string, { holder: Ask | undefined; queue: Ask[] }>();
  channels = new Map<string, Set<FakeChannel>>();
  disk = new MemoryFile();
  /** Nothing can be fetched. */
  isOffline = false;
  place = { isHeld: false, isComplete: false, quarantine: [] as ChangeName[], opened: 0, removed: 0 };
  hasNoSockets = false;
  /** The store cannot be removed. */
  isBroken = false;

  locksOf(owner: object): Locks {
    return {
      request: (name, { signal }, held) =>
        new Promise((done, fail) => {
          const ask: Ask = { owner, held, done, signal };
          const lock = this.#lock(name);
          signal?.addEventListener("abort", () => {
            if (!lock.queue.includes(ask)) return;
            lock.queue.splice(lock.queue.indexOf(ask), 1);
            fail(new DOMException("given up", "AbortError"));
          });
          lock.queue.push(ask);
          this.#grant(name);
        }),
    };
  }

  /** Ends a tab as a crash does: its locks are free, its channels are deaf, nothing of it runs. */
  crash(tab: FakeTab): void {
    tab.isDead = true;
    for (const channels of this.channels.values()) for (const channel of channels) if (channel.owner === tab) channels.delete(channel);
    tab.file?.vanish();
    for (const [name, lock] of this.locks) {
      lock.queue = lock.queue.filter(({ owner }) => owner !== tab);
      if (lock.holder?.owner === tab) {
        lock.holder = undefined;
        this.#grant(name);
      }
    }
  }

  socket(): never {
    throw new Error("there is no network in this world");
  }

  channel(owner: FakeTab, name: string): Channel {
    return new FakeChannel(this, owner, name);
  }

  #lock(name: string): { holder: Ask | undefined; queue: Ask[] } {
    let lock = this.locks.get(name);
    if (!lock) this.locks.set(name, (lock = { holder: undefined, queue: [] }));
    return lock;
  }

  #grant(name: string): void {
    later(() => {
      const lock = this.#lock(name);
      if (lock.holder) return;
      const ask = lock.queue.shift();
      if (!ask) return;
      lock.holder = ask;
      void Promise.resolve(ask.held()).then((value) => {
        if (lock.holder === ask) lock.holder = undefined;
        ask.done(value);
        this.#grant(name);
      });
    });
  }
}

class FakeChannel implements Channel {
  onmessage: ((event: { data: unknown }) => void) | null = null;
  constructor(
    readonly world: World,
    readonly owner: FakeTab,
    readonly name: string,
  ) {
    const all = world.channels.get(name) ?? new Set();
    world.channels.set(name, all.add(this));
  }

  postMessage(message: unknown): void {
    if (this.owner.isDead) return;
    const data: unknown = structuredClone(message);
    for (const other of this.world.channels.get(this.name) ?? []) {
      if (other !== this) later(() => this.world.channels.get(this.name)?.has(other) && other.onmessage?.({ data }));
    }
  }

  close(): void {
    this.world.channels.get(this.name)?.delete(this);
  }
}

/** The one file, open for one tab. */
class HeldFile extends MemoryFile {
  isGone = false;
  constructor(
    readonly world: World,
    readonly disk: MemoryFile,
  ) {
    super();
  }
  override read(at: number, into: Uint8Array): number {
    return this.#there().read(at, into);
  }
  override write(at: number, from: Uint8Array): void {
    this.#there().write(at, from);
  }
  override size(): number {
    return this.#there().size();
  }
  override truncate(size: number): void {
    this.#there().truncate(size);
  }
  override close(): void {
    if (!this.isGone) this.vanish();
  }
  vanish(): void {
    if (!this.isGone) this.world.place.isHeld = false;
    this.isGone = true;
  }
  #there(): MemoryFile {
    if (this.isGone) throw new Error("a closed file was used");
    return this.disk;
  }
}

/** A tab with its page's link and its worker. */
export class FakeTab {
  isDead = false;
  file: HeldFile | undefined;
  link: PageLink;
  worker: Tab | undefined;
  /** How often it tried to fetch the WASM. */
  loads = 0;
  /** Messages that left the page: how well they are batched. */
  sent: ToWorker[] = [];

  constructor(
    readonly world: World,
    options: Partial<LinkOptions> = {},
  ) {
    this.link = new PageLink({ name: "app", ...options }, ({ session }, hear) => this.#peer(session, hear));
  }

  tell(message: ToWorker): void {
    later(() => !this.isDead && this.worker?.handle(message));
  }

  #peer(session: string, hear: (message: ToPage) => void): Peer {
    const start: Start = { t: "start", name: "app", session, storage: "auto" };
    const post = (message: ToPage): void => {
      const copy = structuredClone(message);
      later(() => {
        if (this.isDead) return;
        if (copy.t === "closed") this.closed();
        else if (copy.t === "ready") this.#watchWorker(session);
        else if (copy.t === "stepsBack") {
          this.#watch?.abort();
          this.tell({ t: "stepBack" });
        } else hear(copy);
      });
    };
    later(() => (this.worker = new Tab(start, post, this.#around())));
    return {
      post: (message: ToWorker) => {
        this.sent.push(message);
        this.tell(structuredClone(message));
      },
      close: () =>
        new Promise<void>((resolve) => {
          this.closed = resolve;
          this.tell({ t: "close" });
        }),
      end: () => {},
    } as unknown as Peer;
  }

  closed: () => void = () => {};

  /** How often its page would have taken the worker for ended. */
  restarts = 0;
  #watch: AbortController | undefined;

  #watchWorker(session: string): void {
    const watch = (this.#watch = new AbortController());
    this.world
      .locksOf(this)
      .request(`rejoin:app:${session}`, { signal: watch.signal }, () => {
        if (!watch.signal.aborted && !this.isDead) this.restarts++;
      })
      .catch(() => {});
  }

  #around(): Around {
    const load = engineLoader(makeGlue, () => {
      this.loads++;
      return this.world.isOffline ? new Uint8Array(1) : noWasm;
    });
    return {
      locks: this.world.locksOf(this),
      channel: (name) => new FakeChannel(this.world, this, name),
      preload: () => load.preload(),
      serve: async () => ({ place: this.#place(), load, webSocket: () => (this.world.hasNoSockets ? null : () => this.world.socket()) }),
    };
  }

  #place(): Place {
    const { place } = this.world;
    return {
      kind: "opfs",
      open: async (): Promise<StoreFiles> => {
        for (let i = 0; place.isHeld && i < 100; i++) await new Promise((resolve) => setTimeout(resolve, 1));
        if (place.isHeld) throw { code: "store_in_use", message: "the file is open elsewhere" };
        place.isHeld = true;
        place.opened++;
        this.file = new HeldFile(this.world, this.world.disk);
        // The engine of these tests keeps all it has in its file.
        return { file: this.file, journal: new MemoryFile(), fresh: this.world.disk.size() === 0 };
      },
      completed: async () => void (place.isComplete = true),
      discard: async () => {
        if (place.isComplete) return false;
        this.world.disk.truncate(0);
        return true;
      },
      quarantine: async () => place.quarantine,
      keepQuarantine: async (changes) => void (place.quarantine = changes),
      remove: async () => {
        if (this.world.isBroken) throw new Error("the disk says no");
        this.world.disk.truncate(0);
        Object.assign(place, { isComplete: false, quarantine: [], removed: place.removed + 1 });
      },
      estimate: async () => undefined,
      release: async () => {},
    };
  }
}
