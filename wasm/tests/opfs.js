// A file in OPFS as the engine wants it, and ways for a test to make it fail.

class TestFile {
  #handle;
  #left = -1;
  #keep = false;

  constructor(handle) {
    this.#handle = handle;
  }

  #spend(bytes) {
    if (this.#left < 0) return;
    if (bytes > this.#left) {
      this.#left = 0;
      throw Object.assign(new Error("no room is left"), { code: "quota" });
    }
    this.#left -= bytes;
  }

  read(at, into) {
    return this.#handle.read(into, { at });
  }

  write(at, from) {
    this.#spend(from.length);
    if (this.#handle.write(from, { at }) !== from.length) throw new Error("a part was written");
  }

  size() {
    return this.#handle.getSize();
  }

  truncate(size) {
    this.#spend(Math.max(0, size - this.size()));
    this.#handle.truncate(size);
  }

  flush() {
    this.#handle.flush();
  }

  close() {
    if (!this.#keep) this.#handle.close();
  }

  fail_after(bytes) {
    this.#left = bytes;
  }

  keep_open(keep) {
    this.#keep = keep;
  }

  kill() {
    this.#handle.close();
  }

  bytes() {
    const bytes = new Uint8Array(this.size());
    this.read(0, bytes);
    return bytes;
  }

  fill(bytes) {
    this.#handle.truncate(0);
    this.#handle.write(bytes, { at: 0 });
  }
}

export async function open(name) {
  const root = await navigator.storage.getDirectory();
  const file = await root.getFileHandle(name, { create: true });
  return new TestFile(await file.createSyncAccessHandle());
}
