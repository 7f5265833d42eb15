/** A disk whose power can be cut, under the store of a page: what was flushed stays, and of the rest any selection of sectors in any order. */
import type { ChangeName, Place, StoreFile, StoreFiles } from "../../ts/host/contract.js";

/** Disks write these many bytes whole or not at all. */
const SECTOR_BYTES = 512;

/** Which of the operations that were not flushed reached the disk. */
export const KEPT = ["none", "all", "sectors", "first sector", "all but first sector", "last torn", "every second", "reordered", "old length"] as const;
export type Kept = (typeof KEPT)[number];

type Pending = { length: number } | { at: number; bytes: Uint8Array };

/** Chance that goes the same way each time (mulberry32). */
export class Chance {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  below(count: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) % count;
  }

  coin(): boolean {
    return this.below(2) === 1;
  }
}

function writeAt(bytes: Uint8Array, at: number, from: Uint8Array): Uint8Array {
  const grown = resized(bytes, Math.max(bytes.length, at + from.length));
  grown.set(from, at);
  return grown;
}

function resized(bytes: Uint8Array, length: number): Uint8Array {
  if (length === bytes.length) return bytes;
  const other = new Uint8Array(length);
  other.set(bytes.subarray(0, length));
  return other;
}

/** What the files on such a disk share: it lasts for so many operations of all of them, and then it is cut. */
export class Power {
  operations = 0;
  #left: number;
  #cut: () => void;

  constructor(operations = Infinity, cut: () => void = () => {}) {
    this.#left = operations;
    this.#cut = cut;
  }

  operate(): void {
    if (this.#left === 0) {
      this.#cut();
      throw { code: "store_failed", message: "the power is cut" };
    }
    this.#left--;
    this.operations++;
  }
}

/** A file on such a disk. Writes, changes of the length and flushes are its operations; after the last one everything fails. */
export class CutFile implements StoreFile {
  #power: Power;
  #live: Uint8Array;
  #durable: Uint8Array;
  #pending: Pending[] = [];

  constructor(image: Uint8Array, power: Power) {
    this.#live = image.slice();
    this.#durable = image.slice();
    this.#power = power;
  }

  read(at: number, into: Uint8Array): number {
    const there = this.#live.subarray(at, at + into.length);
    into.set(there);
    return there.length;
  }

  write(at: number, from: Uint8Array): void {
    this.#power.operate();
    this.#live = writeAt(this.#live, at, from);
    this.#pending.push({ at, bytes: from.slice() });
  }

  size(): number {
    return this.#live.length;
  }

  truncate(size: number): void {
    this.#power.operate();
    this.#live = resized(this.#live, size);
    this.#pending.push({ length: size });
  }

  flush(): void {
    this.#power.operate();
    this.#durable = this.#live.slice();
    this.#pending = [];
  }

  close(): void {}

  /** What may be found when the power is back. */
  image(kept: Kept, chance: Chance): Uint8Array {
    let image: Uint8Array = this.#durable.slice();
    const order = this.#pending.map((_, number) => number);
    if (kept === "reordered") order.sort(() => (chance.coin() ? 1 : -1));
    for (const number of order) {
      const pending = this.#pending[number] as Pending;
      if ("length" in pending) {
        const stays = { none: false, "old length": pending.length <= image.length }[kept as string];
        if (stays ?? (kept === "sectors" || kept === "reordered" ? chance.coin() : true)) image = resized(image, pending.length);
        continue;
      }
      const whole = chance.coin();
      for (let from = 0; from < pending.bytes.length; ) {
        const at = pending.at + from;
        const length = Math.min(SECTOR_BYTES - (at % SECTOR_BYTES), pending.bytes.length - from);
        const keeps: Record<Kept, () => boolean> = {
          none: () => false,
          all: () => true,
          sectors: () => chance.coin(),
          "first sector": () => at < SECTOR_BYTES,
          "all but first sector": () => at >= SECTOR_BYTES,
          "last torn": () => number < this.#pending.length - 1 || chance.coin(),
          "every second": () => number % 2 === 0,
          reordered: () => whole,
          "old length": () => at + length <= image.length,
        };
        if (keeps[kept]()) image = writeAt(image, at, pending.bytes.subarray(from, from + length));
        from += length;
      }
    }
    return image;
  }
}

/** What is in the files of a store: its own, and the journal. */
export type Images = [file: Uint8Array, journal: Uint8Array];

export const NOTHING: Images = [new Uint8Array(0), new Uint8Array(0)];

/** The place of such files. As in OPFS, a mark beside them says that an engine has opened them. */
export class CutPlace implements Place {
  readonly kind = "opfs";
  #files: [CutFile, CutFile];
  isComplete: boolean;

  constructor(images: Images, isComplete = false, power = new Power()) {
    this.#files = [new CutFile(images[0], power), new CutFile(images[1], power)];
    this.isComplete = isComplete;
  }

  async open(): Promise<StoreFiles> {
    const [file, journal] = this.#files;
    return { file, journal, fresh: file.size() === 0 };
  }

  /** What may be found when the power is back. What one file keeps says nothing of what the other one does. */
  images(kept: Kept, chance: Chance): Images {
    const other = kept === "none" || kept === "all" || chance.coin() ? kept : (KEPT[chance.below(KEPT.length)] as Kept);
    return [this.#files[0].image(kept, chance), this.#files[1].image(other, chance)];
  }

  async completed(): Promise<void> {
    this.isComplete = true;
  }

  async discard(): Promise<boolean> {
    if (this.isComplete) return false;
    const power = new Power();
    this.#files = [new CutFile(NOTHING[0], power), new CutFile(NOTHING[1], power)];
    return true;
  }

  async quarantine(): Promise<ChangeName[]> {
    return [];
  }

  async keepQuarantine(): Promise<void> {}
  async estimate(): Promise<undefined> {}
  async remove(): Promise<void> {}
  async release(): Promise<void> {}
}
