/** A store in memory, for where a browser has no file for us (private windows, insecure origins) and for tests. It survives a trap, not its tab. */
import { MEMORY_STEP_MAX_BYTES, MEMORY_STEP_MIN_BYTES } from "./limits.js";
import type { ChangeName, Place, StoreFile, StoreFiles } from "./contract.js";

/** A file of bytes that grows as it is written to. Doubling keeps the copies linear in the bytes written. */
export class MemoryFile implements StoreFile {
  #bytes = new Uint8Array(0);
  #size = 0;

  read(at: number, into: Uint8Array): number {
    const there = this.#bytes.subarray(Math.min(at, this.#size), Math.min(at + into.length, this.#size));
    into.set(there);
    return there.length;
  }

  write(at: number, from: Uint8Array): void {
    if (at + from.length > this.#size) this.truncate(at + from.length);
    this.#bytes.set(from, at);
  }

  size(): number {
    return this.#size;
  }

  truncate(size: number): void {
    if (size > this.#bytes.length) {
      const step = Math.min(Math.max(this.#bytes.length, MEMORY_STEP_MIN_BYTES), MEMORY_STEP_MAX_BYTES);
      const grown = new Uint8Array(Math.max(size, this.#bytes.length + step));
      grown.set(this.#bytes.subarray(0, this.#size));
      this.#bytes = grown;
    }
    // What is cut off must read as zeros when the file grows again.
    if (size < this.#size) this.#bytes.fill(0, size, this.#size);
    this.#size = size;
  }

  flush(): void {}
  close(): void {}
}

/** The place of a store in memory: the same files each time it is opened, so that an engine that trapped is followed by one with its data. */
export class MemoryPlace implements Place {
  readonly kind = "memory";
  #file = new MemoryFile();
  #journal = new MemoryFile();
  #isComplete = false;
  #quarantine: ChangeName[] = [];

  async open(): Promise<StoreFiles> {
    return { file: this.#file, journal: this.#journal, fresh: !this.#isComplete };
  }

  async completed(): Promise<void> {
    this.#isComplete = true;
  }

  async discard(): Promise<boolean> {
    if (this.#isComplete) return false;
    this.#clear();
    return true;
  }

  async quarantine(): Promise<ChangeName[]> {
    return this.#quarantine;
  }

  async keepQuarantine(changes: ChangeName[]): Promise<void> {
    this.#quarantine = changes;
  }

  async remove(): Promise<void> {
    this.#clear();
    this.#isComplete = false;
    this.#quarantine = [];
  }

  async estimate(): Promise<undefined> {}
  async release(): Promise<void> {}

  #clear(): void {
    [this.#file, this.#journal] = [new MemoryFile(), new MemoryFile()];
  }
}
