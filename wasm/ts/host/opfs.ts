/**
 * A store in the origin private file system, in the directory `rejoin`.
 *
 * `<name>.redb` is the store, `<name>.redb.rejoin-journal` its journal (empty while nobody has the store open), `<name>.complete` says that an engine has opened it once, `<name>.quarantine` lists the changes that trapped.
 * A crash while the store is being made leaves a file that nobody can open. It is made anew only if the mark of completion is missing *and*
 * the engine calls the file damaged: a mark alone could be lost with the power, a file that opens never is thrown away.
 */
import { FILE_RETRY_MS, FILE_WAIT_MS, OPFS_RETRY_MS, OPFS_TRIES } from "./limits.js";
import type { ChangeName, Place, StoreFile, StoreFiles } from "./contract.js";

/** The handle's own methods, as the standard has them now (the first browsers that had it answered by promise). */
interface SyncHandle {
  read(into: Uint8Array, options: { at: number }): number;
  write(from: Uint8Array, options: { at: number }): number;
  getSize(): number;
  truncate(size: number): void;
  flush(): void;
  close(): void;
}

/** What the engine expects the journal of `x.redb` to be called, so that a copy of both opens everywhere. */
export const JOURNAL = "redb.rejoin-journal";

class OpfsFile implements StoreFile {
  #handle: SyncHandle;

  constructor(handle: SyncHandle) {
    this.#handle = handle;
  }

  read(at: number, into: Uint8Array): number {
    return this.#handle.read(into, { at });
  }

  write(at: number, from: Uint8Array): void {
    // Browsers tell a full disk either by throwing or by writing less.
    if (roomFor(() => this.#handle.write(from, { at })) < from.length) throw full("the browser wrote only a part");
  }

  size(): number {
    return this.#handle.getSize();
  }

  truncate(size: number): void {
    roomFor(() => this.#handle.truncate(size));
  }

  flush(): void {
    roomFor(() => this.#handle.flush());
  }

  close(): void {
    this.#handle.close();
  }
}

/**
 * Finds the place of a store in this worker, or null where the browser has none for us: a private window, an insecure origin, a browser
 * without sync access handles. An error that may pass is thrown, not taken for that: an empty store would look like lost data.
 */
export async function opfsPlace(name: string): Promise<Place | null> {
  const storage = globalThis.navigator?.storage;
  if (!storage?.getDirectory || !("createSyncAccessHandle" in (globalThis.FileSystemFileHandle?.prototype ?? {}))) return null;
  for (let tries = OPFS_TRIES; ; tries--) {
    try {
      const root = await storage.getDirectory();
      return new OpfsPlace(await root.getDirectoryHandle("rejoin", { create: true }), encodeURIComponent(name));
    } catch (error) {
      if (isFull(error)) throw full(String(error));
      if (FOR_GOOD.has((error as { name?: string }).name ?? "")) return null;
      if (tries <= 1) throw { code: "store_failed", message: `failed to find the store: ${String(error)}` };
      await new Promise((resolve) => setTimeout(resolve, OPFS_RETRY_MS));
    }
  }
}

/** What browsers answer that have no files for this page, whenever it asks: Firefox, Chromium and Safari, in private windows and foreign frames. */
const FOR_GOOD = new Set(["SecurityError", "UnknownError", "NotAllowedError", "NotSupportedError"]);

class OpfsPlace implements Place {
  readonly kind = "opfs";
  #directory: FileSystemDirectoryHandle;
  #name: string;

  constructor(directory: FileSystemDirectoryHandle, name: string) {
    this.#directory = directory;
    this.#name = name;
  }

  async open(): Promise<StoreFiles> {
    try {
      // The journal first: once the store is there, it always was.
      const journal = await this.#open(JOURNAL);
      let file: StoreFile | undefined;
      try {
        file = await this.#open("redb");
        return { file, journal, fresh: file.size() === 0 };
      } catch (error) {
        journal.close();
        file?.close();
        throw error;
      }
    } catch (error) {
      if (isFull(error)) throw full(String(error));
      throw error;
    }
  }

  async completed(): Promise<void> {
    await this.#directory.getFileHandle(`${this.#name}.complete`, { create: true });
  }

  async discard(): Promise<boolean> {
    if (await this.#has("complete")) return false;
    for (const suffix of ["redb", JOURNAL]) await this.#directory.removeEntry(`${this.#name}.${suffix}`);
    return true;
  }

  async quarantine(): Promise<ChangeName[]> {
    if (!(await this.#has("quarantine"))) return [];
    const entry = await this.#directory.getFileHandle(`${this.#name}.quarantine`);
    return readChangeNames(await (await entry.getFile()).text());
  }

  async keepQuarantine(changes: ChangeName[]): Promise<void> {
    const entry = await this.#directory.getFileHandle(`${this.#name}.quarantine`, { create: true });
    const handle = await openHandle(entry);
    try {
      const bytes = new TextEncoder().encode(JSON.stringify(changes));
      handle.truncate(bytes.length);
      handle.write(bytes, { at: 0 });
      handle.flush();
    } finally {
      handle.close();
    }
  }

  async estimate(): Promise<{ usage: number; quota: number } | undefined> {
    const { usage, quota } = await navigator.storage.estimate();
    return usage === undefined || quota === undefined ? undefined : { usage, quota };
  }

  async remove(): Promise<void> {
    // The mark of completion goes last: while it is there, a file that is left is never taken for one that nobody had opened.
    for (const suffix of ["redb", JOURNAL, "quarantine", "complete"]) {
      await this.#directory.removeEntry(`${this.#name}.${suffix}`).catch((error: unknown) => {
        if ((error as { name?: string }).name !== "NotFoundError") throw error;
      });
    }
  }

  async release(): Promise<void> {}

  async #open(suffix: string): Promise<StoreFile> {
    return new OpfsFile(await openHandle(await this.#directory.getFileHandle(`${this.#name}.${suffix}`, { create: true })));
  }

  async #has(suffix: string): Promise<boolean> {
    try {
      await this.#directory.getFileHandle(`${this.#name}.${suffix}`);
      return true;
    } catch {
      return false;
    }
  }
}

/** Opens a handle. A tab that has just crashed may hold the file a moment longer than its locks, so this waits for it. */
async function openHandle(entry: FileSystemFileHandle): Promise<SyncHandle> {
  const until = performance.now() + FILE_WAIT_MS;
  for (;;) {
    try {
      return (await (entry as unknown as { createSyncAccessHandle(): Promise<SyncHandle> }).createSyncAccessHandle()) as SyncHandle;
    } catch (error) {
      const name = (error as { name?: string }).name;
      if (name !== "NoModificationAllowedError" && name !== "InvalidStateError") throw error;
      if (performance.now() > until) throw { code: "store_in_use", message: `failed to open the store: another tab holds it (${name})` };
      await new Promise((resolve) => setTimeout(resolve, FILE_RETRY_MS));
    }
  }
}

/** Reads the list of quarantined changes. What is not one is left out: a torn file must not keep the store from opening. */
export function readChangeNames(text: string): ChangeName[] {
  try {
    const list: unknown = JSON.parse(text);
    if (!Array.isArray(list)) return [];
    return list.filter((entry): entry is ChangeName => Array.isArray(entry) && typeof entry[0] === "string" && typeof entry[1] === "string");
  } catch {
    return [];
  }
}

function roomFor<T>(write: () => T): T {
  try {
    return write();
  } catch (error) {
    throw isFull(error) ? full(String(error)) : error;
  }
}

function isFull(error: unknown): boolean {
  return (error as { name?: string } | null)?.name === "QuotaExceededError";
}

function full(why: string): { code: "quota"; message: string } {
  return { code: "quota", message: `failed to write the store: no room left (${why})` };
}
