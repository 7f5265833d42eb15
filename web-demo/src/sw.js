/**
 * The service worker: keeps the files of this page, so that it opens without a network. The data is none of its business.
 *
 * The build puts in the names of all files and a version made of their content. A new version is fetched as a whole beside the old one and
 * takes over when the last tab of the old one has gone: a page never gets files of two versions, nor an engine that is not its own.
 */
const CACHE = `rejoin-demo ${"VERSION"}`;
const FILES = ["FILES"];

addEventListener("install", (event) => {
  // The browser's own cache may hold an older page.
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(FILES.map((path) => new Request(path, { cache: "reload" })))));
});

addEventListener("activate", (event) => {
  const tidy = async () => {
    for (const name of await caches.keys()) if (name.startsWith("rejoin-demo ") && name !== CACHE) await caches.delete(name);
    await clients.claim();
  };
  event.waitUntil(tidy());
});

addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== "GET" || url.origin !== location.origin) return;
  const path = request.mode === "navigate" ? "/" : url.pathname;
  if (!FILES.includes(path)) return;
  event.respondWith(caches.open(CACHE).then(async (cache) => (await cache.match(path)) ?? fetch(request)));
});
