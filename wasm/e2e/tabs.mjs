/** Several tabs of one store in real Chromium: who leads, and what happens when that one ends. Run by `npm run e2e`. */
import assert from "node:assert/strict";
import { answerAfter, ask, browse, DOC, isReal, run, startWriting, stopWriting, tab, words } from "./browser.mjs";

const leads = async (page) => (await ask(page, "status")).leader;

async function three(context, url, options) {
  const pages = [];
  for (let i = 0; i < 3; i++) pages.push(await tab(context, url, options));
  await words.make(pages[0]);
  return pages;
}

/** Crashes the renderer of a page. */
async function crash(page) {
  const crashed = new Promise((resolve) => page.once("crash", resolve));
  const session = await page.context().newCDPSession(page);
  session.send("Page.crash").catch(() => {});
  await crashed;
}

/** Ends the leader while all tabs write; what the survivors had acknowledged must be there, and so must what the leader had. */
async function leaderEnds(context, url, end, options) {
  const [a, b, c] = await three(context, url, options);
  assert.deepEqual([await leads(a), await leads(b), await leads(c)], [true, false, false]);
  for (const page of [a, b, c]) await startWriting(page);
  await new Promise((resolve) => setTimeout(resolve, 100));
  const before = await a.evaluate(() => window.written);
  const silence = await answerAfter(b, () => end(a));
  const [forB, forC] = [await stopWriting(b), await stopWriting(c)];
  const total = await words.total(b);
  assert.equal(await words.total(c), total);
  assert.deepEqual([forB.refused, forC.refused], [[], []]);
  assert.equal(forB.written, forB.asked);
  const known = before + forB.written + forC.written;
  assert.ok(total >= known, `${total} of at least ${known} acknowledged writes are there`);
  assert.equal([await leads(b), await leads(c)].filter(Boolean).length, 1);
  for (const page of [b, c]) assert.equal(await page.evaluate(() => window.events.filter(({ e }) => e === "engine").length), 1);
  return `${silence.toFixed(0)} ms without an answer, ${known} acknowledged, ${total} there`;
}

await run({
  "three tabs share one engine": async ({ context, url }) => {
    const pages = await three(context, url);
    for (const page of pages) await startWriting(page, 8);
    await new Promise((resolve) => setTimeout(resolve, 200));
    const written = (await Promise.all(pages.map(stopWriting))).map(({ written }) => written);
    for (const page of pages) assert.equal(await words.total(page), written[0] + written[1] + written[2]);
    assert.equal((await ask(pages[0], "status")).storage, "opfs");
    const trip = (page) =>
      page.evaluate(async () => {
        const times = [];
        for (let i = 0; i < 200; i++) {
          const asked = performance.now();
          await window.ask("status");
          times.push(performance.now() - asked);
        }
        return times.sort((a, b) => a - b)[100].toFixed(2);
      });
    return `writes by leader and followers: ${written.join(", ")}; round trip ${await trip(pages[0])} ms in the leader's tab, ${await trip(pages[1])} ms in another`;
  },

  "five tabs started at once agree on one leader": async ({ context, url }) => {
    const pages = await Promise.all(Array.from({ length: 5 }, () => tab(context, url)));
    await words.make(pages[0]);
    await Promise.all(pages.map((page) => ask(page, ...words.add)));
    for (const page of pages) assert.equal(await words.total(page), 5);
    assert.equal((await Promise.all(pages.map(leads))).filter(Boolean).length, 1);
  },

  "a tab takes over with no network": async ({ context, url, server }) => {
    const [a, b] = await three(context, url);
    await b.waitForTimeout(200);
    server.missing.add("/rejoin.wasm").add("/worker.js");
    await a.close();
    await ask(b, ...words.add);
    assert.equal(await words.total(b), 1);
  },

  "a WASM that is not there is told by its code": async ({ context, url, server }) => {
    server.missing.add("/rejoin.wasm");
    await assert.rejects(tab(context, url), /failed to load the engine: 404/);
  },

  "the leader's tab is closed": ({ context, url }) => leaderEnds(context, url, (page) => page.close()),
  "the leader's renderer crashes": ({ context, url }) => leaderEnds(context, url, crash),
  "the leader goes to another page": ({ context, url }) => leaderEnds(context, url, (page) => page.goto("about:blank")),
  "the leader's link is closed in order": ({ context, url }) => leaderEnds(context, url, (page) => page.evaluate(() => ((window.isWriting = false), window.link.close()))),

  "what a tab showed is gone with it, though it had an hour to live": async ({ context, url }) => {
    if (!isReal) return "with the real engine only";
    const [a, b, c] = await three(context, url);
    const d = await tab(context, url);
    const shown = () => a.evaluate(() => window.events.filter(({ e }) => e === "presence").at(-1)?.values.map(({ key }) => key).sort().join() ?? "");
    const shows = async (wanted) => {
      const since = performance.now();
      // Far less than an hour: what is gone by then was taken back.
      for (let left = 1_000; (await shown()) !== wanted; left--) {
        assert.ok(left, `${wanted} and not ${await shown()}`);
        await a.waitForTimeout(10);
      }
      return (performance.now() - since).toFixed(0);
    };
    await ask(a, "presenceWatch", DOC);
    const keys = ["b", "c", "d"];
    for (const [i, page] of [b, c, d].entries()) await ask(page, "presenceSet", DOC, keys[i], 1, 3_600_000);
    await shows("b,c,d");
    await b.close();
    const closed = await shows("c,d");
    await crash(c);
    const crashed = await shows("d");
    await d.goto("about:blank");
    return `gone ${closed} ms after a tab was closed, ${crashed} ms after one crashed, ${await shows("")} ms after one went elsewhere`;
  },

  "the worker of a page ends in the middle of its requests": async ({ context, url }) => {
    const page = await tab(context, url, { options: { ownWorker: true } });
    await words.make(page);
    await startWriting(page);
    const times = [];
    for (let i = 0; i < 3; i++) {
      times.push(await answerAfter(page, () => page.evaluate(() => window.worker.terminate())));
    }
    const { written, asked, refused } = await stopWriting(page);
    assert.deepEqual([written, refused], [asked, []]);
    // Not one more either: a write that is sent again is done once.
    assert.equal(await words.total(page), written);
    return `${times.map((time) => time.toFixed(0)).join(", ")} ms without an answer, ${written} written`;
  },

  "the worker of a follower ends": async ({ context, url }) => {
    const [a] = await three(context, url);
    const page = await tab(context, url, { options: { ownWorker: true } });
    await startWriting(page);
    const silence = await answerAfter(page, () => page.evaluate(() => window.worker.terminate()));
    const { written } = await stopWriting(page);
    assert.equal(await words.total(a), written);
    return `${silence.toFixed(0)} ms without an answer`;
  },

  "a page that is frozen hands over, and comes back": async ({ context, url }) => {
    const [a, b] = await three(context, url);
    await ask(a, ...words.add);
    // Headless Chromium does not freeze by itself; the event is what a page gets of it.
    await a.evaluate(() => document.dispatchEvent(new Event("freeze")));
    await ask(b, ...words.add);
    assert.equal(await words.total(b), 2);
    await a.evaluate(() => document.dispatchEvent(new Event("resume")));
    await ask(a, ...words.add);
    assert.equal(await words.total(a), 3);
    assert.equal(await leads(a), false);
  },

  "a page that the browser freezes hands over": async ({ context, url }) => {
    const [a, b] = await three(context, url);
    await ask(a, ...words.add);
    const session = await context.newCDPSession(a);
    await session.send("Page.enable");
    const frozen = performance.now();
    await session.send("Page.setWebLifecycleState", { state: "frozen" });
    await ask(b, ...words.add);
    const took = performance.now() - frozen;
    assert.equal(await words.total(b), 2);
    await session.send("Page.setWebLifecycleState", { state: "active" });
    await ask(a, ...words.add);
    assert.equal(await words.total(a), 3);
    return `another answers after ${took.toFixed(0)} ms`;
  },

  "going back to a page gives it an engine again": async ({ context, url }) => {
    const [a, b] = await three(context, url);
    await ask(a, ...words.add);
    await a.evaluate(() => addEventListener("pageshow", ({ persisted }) => (window.wasCached = persisted)));
    await a.goto(`${url}?elsewhere`);
    await ask(b, ...words.add);
    await a.goBack();
    const isCached = await a.evaluate(() => window.wasCached === true);
    if (isCached) {
      await ask(a, ...words.add);
      assert.equal(await words.total(b), 3);
    } else assert.equal(await words.total(b), 2);
    return isCached ? "from the back/forward cache" : "the browser did not keep it";
  },

  "everything is there after the browser was killed": async ({ browser, context, url, server }) => {
    const page = await tab(context, url);
    await words.make(page);
    await startWriting(page);
    await new Promise((resolve) => setTimeout(resolve, 300));
    const written = await page.evaluate(() => window.written);
    await browser.kill();
    await browser.close(true);
    const again = await browse(browser.profile);
    try {
      const total = await words.total(await tab(again.context, server.url));
      assert.ok(total >= written, `${total} of ${written}`);
      return `${written} acknowledged, ${total} there`;
    } finally {
      await again.close(true);
    }
  },

  "private mode: memory, and the status says so": async ({ context, url }) => {
    const before = () => {
      const deny = () => Promise.reject(new DOMException("denied", "SecurityError"));
      Object.defineProperty(StorageManager.prototype, "getDirectory", { value: deny });
    };
    // The override has to be in the worker, which is where the file is asked for.
    await context.route("**/worker.js", async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, body: `(${before})();\n${await response.text()}` });
    });
    const [a, b] = await three(context, url);
    assert.equal((await ask(a, "status")).storage, "memory");
    await ask(a, ...words.add);
    assert.equal(await words.total(b), 1);
    assert.equal((await ask(b, "status")).storage, "memory");
  },

  "an insecure origin: every tab is alone, in memory": async ({ context, url }) => {
    const [a, b] = [await tab(context, url.replace("127.0.0.1", "insecure.test")), await tab(context, url.replace("127.0.0.1", "insecure.test"))];
    assert.equal(await a.evaluate(() => isSecureContext), false);
    await words.make(a);
    await ask(a, ...words.add);
    assert.equal(await words.total(a), 1);
    const [ofA, ofB] = [await ask(a, "status"), await ask(b, "status")];
    assert.deepEqual([ofA.storage, ofA.leader, ofB.leader], ["memory", true, true]);
    await a.evaluate(() => window.link.close());
  },

  "persistence and quota are in the status": async ({ context, url }) => {
    const page = await tab(context, url);
    await page.waitForTimeout(200);
    const status = await ask(page, "status");
    assert.equal(typeof status.persisted, "boolean");
    assert.ok(status.quota.quota > 0);
    return `persisted ${status.persisted}, ${status.quota.usage} of ${status.quota.quota} bytes`;
  },

  "an evicted store is noticed": async ({ context, url }) => {
    const page = await tab(context, url);
    await page.evaluate(() => window.link.close());
    await page.evaluate(async () => (await navigator.storage.getDirectory()).removeEntry("rejoin", { recursive: true }));
    const again = await tab(context, url);
    await again.waitForTimeout(100);
    assert.equal((await ask(again, "status")).evicted, true);
    const third = await tab(context, url);
    assert.equal((await ask(third, "status")).evicted, true);
    await third.close();
    await again.evaluate(() => window.link.close());
    assert.equal((await ask(await tab(context, url), "status")).evicted, undefined);
  },

  "storage that is full is told, and the store goes on when there is room": async ({ context, url }) => {
    if (isReal) return "with counters only";
    const page = await tab(context, url);
    const session = await context.newCDPSession(page);
    await session.send("Storage.overrideQuotaForOrigin", { origin: url.slice(0, -1), quotaSize: 100_000 });
    const code = await page.evaluate(() => window.ask("fill", 10_000_000).catch(({ code }) => code));
    assert.equal(code, "store_full");
    // How much room there is Chromium tells nobody exactly (it answers usage + 10 GiB), but that something is used it does.
    await page.waitForTimeout(100);
    assert.ok((await ask(page, "status")).quota.usage > 0);
    await session.send("Storage.overrideQuotaForOrigin", { origin: url.slice(0, -1) });
    await ask(page, ...words.add);
    assert.equal(await words.total(page), 1);
  },

  "a trap in one document is quarantined": async ({ context, url }) => {
    if (isReal) return "with counters only";
    const [a, b] = await three(context, url);
    await ask(a, ...words.add);
    await ask(a, "poison", DOC, "ff");
    const started = performance.now();
    assert.equal(await words.total(b), 1);
    const took = performance.now() - started;
    await a.close();
    assert.equal(await words.total(b), 1);
    return `answered after two restarts in ${took.toFixed(0)} ms`;
  },

  "the inline entry fetches nothing": async ({ context, url, server }) => {
    server.missing.add("/worker.js").add("/rejoin.wasm");
    const page = await tab(context, url, { options: { inline: true } });
    await words.make(page);
    await ask(page, ...words.add);
    assert.equal(await words.total(page), 1);
    await assert.rejects(tab(context, url, { name: "other" }), /failed to start the worker/);
  },

  "the engine in the page itself": async ({ context, url }) => {
    const page = await tab(context, url, { options: { worker: null } });
    await words.make(page);
    await ask(page, ...words.add);
    assert.equal(await words.total(page), 1);
    assert.equal((await ask(page, "status")).storage, "memory");
  },
});
