/**
 * The store in a file, by node:fs, and what else Node has of its own.
 *
 * Node's modules are taken by `process.getBuiltinModule`, so that no bundler for browsers stumbles over them. The store is made under a
 * temporary name and renamed when an engine has opened it. A lock file with the owner's process id keeps a second process out.
 */
import { FILE_RETRY_MS, FILE_WAIT_MS } from "./limits.js";
import { JOURNAL, readChangeNames } from "./opfs.js";
import { platformWebSocket, type MakeWebSocket, type WebSocketLike } from "./socket.js";
import type { ChangeName, Place, StoreFile, StoreFiles } from "./contract.js";

type Fs = typeof import("node:fs");

/** Whether this is Node (or one that has its modules). */
export function isNode(): boolean {
  return typeof globalThis.process?.getBuiltinModule === "function" && typeof globalThis.window === "undefined";
}

const module = <T>(name: string): T => globalThis.process.getBuiltinModule(name) as T;

class NodeFile implements StoreFile {
  #fs: Fs;
  #fd: number;
  #isOpen = true;

  constructor(fs: Fs, path: string) {
    this.#fs = fs;
    this.#fd = fs.openSync(path, fs.constants.O_RDWR | fs.constants.O_CREAT, 0o600);
  }

  read(at: number, into: Uint8Array): number {
    let done = 0;
    while (done < into.length) {
      const n = this.#fs.readSync(this.#fd, into, done, into.length - done, at + done);
      if (n === 0) break;
      done += n;
    }
    return done;
  }

  write(at: number, from: Uint8Array): void {
    roomFor(() => {
      for (let done = 0; done < from.length; ) done += this.#fs.writeSync(this.#fd, from, done, from.length - done, at + done);
    });
  }

  size(): number {
    return this.#fs.fstatSync(this.#fd).size;
  }

  truncate(size: number): void {
    roomFor(() => this.#fs.ftruncateSync(this.#fd, size));
  }

  flush(): void {
    roomFor(() => this.#fs.fdatasyncSync(this.#fd));
  }

  close(): void {
    if (this.#isOpen) this.#fs.closeSync(this.#fd);
    this.#isOpen = false;
  }
}

/** A store in a directory of the file system. */
export class NodePlace implements Place {
  readonly kind = "file";
  #fs = module<Fs>("node:fs");
  #directory: string;
  #path: string;
  #journal: string;
  #lock: NodeLock;

  constructor(directory: string, name: string) {
    this.#directory = module<typeof import("node:path")>("node:path").resolve(directory);
    const start = `${this.#directory}/${encodeURIComponent(name)}`;
    [this.#path, this.#journal] = [`${start}.redb`, `${start}.${JOURNAL}`];
    this.#lock = new NodeLock(this.#fs, `${this.#path}.lock`);
  }

  async open(): Promise<StoreFiles> {
    this.#fs.mkdirSync(this.#directory, { recursive: true });
    await this.#lock.acquire();
    const fresh = !this.#fs.existsSync(this.#path);
    // Nothing in a file that kept its temporary name was ever acknowledged.
    if (fresh) this.#fs.rmSync(this.#temporary, { force: true });
    const journal = new NodeFile(this.#fs, this.#journal);
    try {
      // Also where the name is there already: whoever made it may have died before this.
      this.#syncDirectory();
      return { file: new NodeFile(this.#fs, fresh ? this.#temporary : this.#path), journal, fresh };
    } catch (error) {
      journal.close();
      throw error;
    }
  }

  async completed(): Promise<void> {
    if (this.#fs.existsSync(this.#path)) return;
    this.#fs.renameSync(this.#temporary, this.#path);
    this.#syncDirectory();
  }

  async discard(): Promise<boolean> {
    if (this.#fs.existsSync(this.#path)) return false;
    for (const path of [this.#temporary, this.#journal]) this.#fs.rmSync(path, { force: true });
    return true;
  }

  async quarantine(): Promise<ChangeName[]> {
    const path = `${this.#path}.quarantine`;
    return this.#fs.existsSync(path) ? readChangeNames(this.#fs.readFileSync(path, "utf8")) : [];
  }

  async keepQuarantine(changes: ChangeName[]): Promise<void> {
    const path = `${this.#path}.quarantine`;
    this.#fs.writeFileSync(`${path}.new`, JSON.stringify(changes), { flush: true });
    this.#fs.renameSync(`${path}.new`, path);
    this.#syncDirectory();
  }

  async remove(): Promise<void> {
    for (const path of [this.#path, this.#temporary, this.#journal, `${this.#path}.quarantine`]) this.#fs.rmSync(path, { force: true });
    this.#syncDirectory();
  }

  async estimate(): Promise<undefined> {}

  async release(): Promise<void> {
    // One who was refused is told to let go too, and has nothing to let go of: the journal is the owner's.
    if (!this.#lock.isHeld) return;
    // A store that was closed in good order has nothing in it.
    if (this.#fs.statSync(this.#journal, { throwIfNoEntry: false })?.size === 0) this.#fs.rmSync(this.#journal);
    this.#lock.release();
  }

  get #temporary(): string {
    return `${this.#path}.new`;
  }

  /** A new name is durable when its directory is. Where directories cannot be opened (Windows), the file system sees to it. */
  #syncDirectory(): void {
    try {
      const fd = this.#fs.openSync(this.#directory, "r");
      this.#fs.fsyncSync(fd);
      this.#fs.closeSync(fd);
    } catch {
      // As above.
    }
  }
}

/** Who holds a lock: the process, and when it was started, since ids come again (in a container each start has the same one). */
interface Owner {
  pid: number;
  start: string;
}

/** A lock file. It is made whole under another name and linked, so that nobody ever reads a half-written one. */
class NodeLock {
  #fs: Fs;
  #path: string;
  #isHeld = false;

  constructor(fs: Fs, path: string) {
    this.#fs = fs;
    this.#path = path;
  }

  get isHeld(): boolean {
    return this.#isHeld;
  }

  /** Waits a little for one who is just closing. Rejects with `store_in_use`. */
  async acquire(): Promise<void> {
    if (this.#isHeld) return;
    const until = Date.now() + Math.min(FILE_WAIT_MS, 1000);
    for (;;) {
      if (this.#try()) {
        this.#isHeld = true;
        return;
      }
      const owner = this.#owner(this.#path);
      if (owner && !this.#isAlive(owner)) this.#remove();
      else if (Date.now() > until) {
        throw { code: "store_in_use", message: `failed to open the store: process ${owner?.pid} holds ${this.#path}` };
      } else await new Promise((resolve) => setTimeout(resolve, FILE_RETRY_MS));
    }
  }

  release(): void {
    if (this.#isHeld) this.#fs.rmSync(this.#path, { force: true });
    this.#isHeld = false;
  }

  #try(): boolean {
    const own = `${this.#path}.${unique()}`;
    this.#fs.writeFileSync(own, JSON.stringify({ pid: globalThis.process.pid, start: startOf(this.#fs, globalThis.process.pid) } satisfies Owner));
    try {
      this.#fs.linkSync(own, this.#path);
      return true;
    } catch (error) {
      if ((error as { code?: string }).code === "EEXIST") return false;
      throw error;
    } finally {
      this.#fs.rmSync(own, { force: true });
    }
  }

  /** Takes away the lock of a dead process. Two may try at once: what was taken is looked at again, and given back if it is alive. */
  #remove(): void {
    const taken = `${this.#path}.${unique()}`;
    try {
      this.#fs.renameSync(this.#path, taken);
      const owner = this.#owner(taken);
      if (owner && this.#isAlive(owner)) this.#fs.linkSync(taken, this.#path);
      this.#fs.rmSync(taken, { force: true });
    } catch {
      // Another was faster; the next attempt sees how it went.
    }
  }

  #owner(path: string): Owner | null {
    try {
      const owner = JSON.parse(this.#fs.readFileSync(path, "utf8")) as Owner;
      return typeof owner.pid === "number" ? owner : null;
    } catch {
      return null;
    }
  }

  #isAlive({ pid, start }: Owner): boolean {
    try {
      globalThis.process.kill(pid, 0);
    } catch (error) {
      // Of another user's process only this much is told.
      if ((error as { code?: string }).code !== "EPERM") return false;
    }
    const now = startOf(this.#fs, pid);
    return !now || !start || now === start;
  }
}

function unique(): string {
  return `${globalThis.process.pid}.${Math.random().toString(36).slice(2)}`;
}

/** When a process was started, as far as the system tells: on Linux by boot and tick, elsewhere for this process only, to ten seconds. */
function startOf(fs: Fs, pid: number): string {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, "utf8");
    const boot = fs.readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
    // The 22nd field; the name of the program, in parentheses, may contain anything.
    return `${boot}/${stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]}`;
  } catch {
    if (pid !== globalThis.process.pid) return "";
    return `about ${Math.round((Date.now() / 1000 - globalThis.process.uptime()) / 10)}`;
  }
}

/** Reads WASM from a file, where an address is one. */
export function readWasm(at: string | URL): Uint8Array | string | URL {
  const { fileURLToPath } = module<typeof import("node:url")>("node:url");
  const text = String(at);
  if (/^(https?|data|blob):/.test(text)) return at;
  return module<Fs>("node:fs").readFileSync(text.startsWith("file:") ? fileURLToPath(text) : text);
}

/** Finds what makes WebSockets: Node's own (22 and newer), or the package `ws` if it is installed. Null if there is neither. */
export function nodeWebSocket(base: string): MakeWebSocket | null {
  if (typeof WebSocket === "function") return platformWebSocket();
  try {
    // Not an `import`, which bundlers would try to resolve.
    const Ws = module<typeof import("node:module")>("node:module").createRequire(base)("ws") as new (
      url: string,
      protocols: string[],
      options: object,
    ) => WebSocketLike;
    return (url, protocols) => new Ws(url, protocols, { perMessageDeflate: false });
  } catch {
    return null;
  }
}

function roomFor<T>(write: () => T): T {
  try {
    return write();
  } catch (error) {
    const { code, message } = error as { code?: string; message?: string };
    throw code === "ENOSPC" || code === "EDQUOT" || code === "EFBIG" ? { code: "quota", message: `failed to write the store: ${message}` } : error;
  }
}
