/**
 * What the end-to-end tests do to a worker, put in front of its script: the package itself has nothing of it.
 *
 * - `full`: the store's file throws as a full disk does when more than so many bytes were written. A number, or null for room again.
 * - `trap`: the engine traps when it is about to apply this change, and when it handles this document without saying which change it is at, as long
 *   as it would apply the change. The exception comes out of an import of the WASM and goes through all its frames, as a trap does.
 */
export async function hook(context) {
  await context.route("**/worker.js", async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, body: `(${inWorker})();\n${await response.text()}` });
  });
}

/** Tells the workers of a page's origin what to do; resolves when those that are there have heard of it. */
export const tellWorkers = (page, message) =>
  page.evaluate(
    (message) =>
      new Promise((resolve) => {
        const channel = new BroadcastChannel("e2e");
        channel.onmessage = ({ data }) => data === "done" && (channel.close(), resolve());
        channel.postMessage(message);
      }),
    message,
  );

/** Runs in the worker. */
function inWorker() {
  let room = Infinity;
  let trap = null;
  const channel = new BroadcastChannel("e2e");
  channel.onmessage = ({ data }) => {
    if (data === "done") return;
    if ("full" in data) room = data.full ?? Infinity;
    if ("trap" in data) trap = data.trap;
    channel.postMessage("done");
  };

  const { write, truncate, getSize } = FileSystemSyncAccessHandle.prototype;
  const full = () => new DOMException("the test says so", "QuotaExceededError");
  FileSystemSyncAccessHandle.prototype.write = function (data, options) {
    if (room < data.byteLength) throw full();
    room -= data.byteLength;
    return write.call(this, data, options);
  };
  FileSystemSyncAccessHandle.prototype.truncate = function (size) {
    if (room < Infinity && size > getSize.call(this)) throw full();
    return truncate.call(this, size);
  };

  const { instantiate } = WebAssembly;
  WebAssembly.instantiate = async (module, imports) => {
    let memory;
    const text = (at, length) => (at ? new TextDecoder().decode(new Uint8Array(memory.buffer, at, length)) : null);
    for (const group of Object.values(imports)) {
      for (const [name, work] of Object.entries(group)) {
        // Its own name is shortened; that of what it calls is part of the contract.
        if (!String(work).includes(".working(")) continue;
        group[name] = (host, docAt, docLength, hashAt, hashLength) => {
          const [doc, hash] = [text(docAt, docLength), text(hashAt, hashLength)];
          work(host, docAt, docLength, hashAt, hashLength);
          // While it is not suspected, the document is handled as one; that ends with the change in it, too.
          if (trap && doc === trap.doc && (hash === trap.hash || (hash === null && !trap.isSuspect))) {
            trap.isSuspect = true;
            throw new WebAssembly.RuntimeError("unreachable (the test says so)");
          }
        };
      }
    }
    const made = await instantiate(module, imports);
    memory = Object.values((made.instance ?? made).exports).find((one) => one instanceof WebAssembly.Memory);
    return made;
  };
}
