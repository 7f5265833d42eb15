/** What the package promises, in real Chromium with the real engine, through its public API. Run by `npm run e2e:real`. */
import assert from "node:assert/strict";
import { browse, run } from "./browser.mjs";
import { hook, tellWorkers } from "./hooks.mjs";
import { freePort, startDoor, startRelay, token } from "./relay.mjs";

/** Opens a page and, in it, a repo. `token` names a function of the page. */
async function open(context, url, { name = "app", relay, offline, token } = {}) {
  const page = await context.newPage();
  page.on("pageerror", (error) => console.error("    page:", error.message));
  page.on("console", (message) => process.env.LOUD && console.error("    page:", message.text()));
  await page.goto(url);
  await page.evaluate(
    async ([name, relay, offline, token]) => {
      Object.assign(window, await import("/page.js"));
      window.statuses = [];
      window.tokens = [];
      window.openRepo = async () => {
        const options = { name, offline, worker: () => (window.worker = new Worker("/worker.js", { type: "module" })) };
        if (relay) options.relay = relay;
        if (token) options.token = async () => (window.tokens.push(token.shift() ?? "none"), window.tokens.at(-1));
        window.repo = await Repo.open(options);
        window.repo.subscribe((status) => window.statuses.push(status));
      };
      await window.openRepo();
    },
    [name, relay, offline, token],
  );
  return page;
}

/** Waits until a page's status is as wanted. */
const until = (page, wanted, argument) => page.waitForFunction(wanted, argument, { timeout: 50_000, polling: 20 });
const isSynced = () => window.repo.status.state === "synced" && window.repo.status.pending === 0;
const milliseconds = (from) => `${Math.round(performance.now() - from)} ms`;

/** The files of the origin private file system. */
const files = (page) =>
  page.evaluate(async () => {
    const root = await navigator.storage.getDirectory();
    const names = [];
    try {
      for await (const name of (await root.getDirectoryHandle("rejoin")).keys()) names.push(name);
    } catch {
      // There is no such directory.
    }
    return names.sort();
  });

/** Runs a case with what it needs, and takes that away again. */
async function using(make, test) {
  const made = await make();
  try {
    return await test(made);
  } finally {
    await made.close();
  }
}

/** Tokens of one principal, one for each time that the last is no longer good, and one that is good nowhere. */
const tokens = ["first", "second", "third", "fourth"].map(token);
const stale = token("stale");

await run(
  {
    "two browsers write offline, reconnect, and are equal": ({ context, url }) =>
      using(startRelay, (relay) =>
        using(browse, async (other) => {
          const [a, b] = [await open(context, url, { relay: relay.url }), await open(other.context, url, { relay: relay.url })];
          const id = await a.evaluate(async () => {
            window.doc = await repo.create({ title: "Tea", count: new Counter(1), body: text("hello"), items: ["a"] });
            await repo.waitSynced(20_000);
            return doc.id;
          });
          await b.evaluate(async (id) => void (window.doc = await repo.find(id, { wait: 20_000 })), id);
          for (const page of [a, b]) await page.evaluate(() => repo.setOffline(true));
          const write = (page, name) =>
            page.evaluate(async (name) => {
              for (let i = 0; i < 20; i++) {
                await doc.increment("count", 1);
                await doc.set(`by ${name}`, i);
                await doc.change((draft) => draft.items.push(`${name}${i}`));
                await doc.text("body").splice(0, 0, name);
              }
              await doc.set("title", name);
              return repo.status;
            }, name);
          const offline = [await write(a, "a"), await write(b, "b")];
          assert.deepEqual(offline.map(({ state }) => state), ["offline", "offline"]);
          assert.ok(offline.every(({ pending }) => pending > 60));
          const from = performance.now();
          for (const page of [a, b]) await page.evaluate(() => repo.setOffline(false));
          for (const page of [a, b]) await page.evaluate(() => repo.waitSynced(40_000));
          // Each has pushed what it had; what the other pushed may still be on its way.
          const heads = (page) => page.evaluate(() => JSON.stringify([...doc.heads].sort()));
          for (const end = Date.now() + 50_000; (await heads(a)) !== (await heads(b)); ) {
            assert.ok(Date.now() < end, "both have the same heads");
            await new Promise((resolve) => setTimeout(resolve, 20));
          }
          const took = milliseconds(from);
          const seen = async (page) => JSON.parse(await page.evaluate(() => JSON.stringify(doc.value)));
          const value = await seen(a);
          assert.deepEqual(await seen(b), value);
          assert.equal(Number(value.count), 41);
          assert.deepEqual([value["by a"], value["by b"], value.items.length, value.body.length], [19, 19, 41, 45]);
          return `equal after ${took}`;
        }),
      ),

    "three tabs: the leader is killed, then a worker is ended, and all goes on in order": async ({ context, url }) => {
      const pages = [];
      for (let i = 0; i < 3; i++) pages.push(await open(context, url));
      const id = await pages[0].evaluate(async () => (window.doc = await repo.create({ n: new Counter(0), log: [] })).id);
      for (const page of pages.slice(1)) await page.evaluate(async (id) => void (window.doc = await repo.find(id)), id);
      for (const [i, page] of pages.entries()) {
        await page.evaluate((i) => {
          window.isWriting = true;
          window.acked = [];
          window.writer = (async () => {
            for (let k = 0; window.isWriting; k++) {
              const key = i * 1_000_000 + k;
              await doc.change((draft) => {
                draft.n.increment(1);
                draft.log.push(key);
              });
              window.acked.push(key);
            }
          })();
        }, i);
      }
      const at = () => Promise.all(pages.slice(1).map((page) => page.evaluate(() => window.acked.length)));
      const moves = async () => {
        const from = performance.now();
        const before = await at();
        while ((await at()).some((count, i) => count <= before[i])) await new Promise((resolve) => setTimeout(resolve, 5));
        return performance.now() - from;
      };
      await moves();
      const fromLeader = await pages[0].evaluate(() => window.acked.slice());
      const crashed = new Promise((resolve) => pages[0].once("crash", resolve));
      (await context.newCDPSession(pages[0])).send("Page.crash").catch(() => {});
      await crashed;
      const silence = await moves();
      await pages[1].evaluate(() => window.worker.terminate());
      const second = await moves();
      const acked = [];
      for (const page of pages.slice(1)) {
        acked.push(
          await page.evaluate(async () => {
            window.isWriting = false;
            await window.writer;
            return window.acked;
          }),
        );
      }
      await pages[2].evaluate((count) => new Promise((resolve) => {
        const look = () => doc.value.log.length >= count && (stop(), resolve());
        const stop = doc.subscribe(look);
        queueMicrotask(look);
      }), acked[0].length + acked[1].length + fromLeader.length);
      const { n, log } = await pages[2].evaluate(async () => {
        const again = await repo.open(doc.id);
        return { n: Number(again.value.n), log: [...again.value.log] };
      });
      assert.equal(new Set(log).size, log.length, "a write is there twice");
      assert.equal(n, log.length, "the counter is exact");
      for (const keys of [fromLeader, ...acked]) {
        assert.deepEqual(keys.filter((key) => !log.includes(key)), [], "acknowledged, and not there");
        // What one page writes stays in its order.
        const places = keys.map((key) => log.indexOf(key));
        assert.deepEqual(places, places.toSorted((x, y) => x - y));
      }
      return `${log.length} writes; answers again after ${silence.toFixed(0)} ms and ${second.toFixed(0)} ms`;
    },

    "10,000 documents in one space are made, listed and opened": async ({ context, url }) => {
      const page = await open(context, url);
      const made = await page.evaluate(async () => {
        const from = performance.now();
        const space = repo.space();
        for (let done = 0; done < 10_000; done += 500) {
          const all = Array.from({ length: 500 }, (_, i) => space.create({ title: `Document ${done + i}`, done: false }));
          for (const doc of await Promise.all(all)) doc.close();
        }
        return { space: space.id, took: performance.now() - from };
      });
      await page.evaluate(() => repo.close());
      await page.reload();
      const figures = await page.evaluate(async (id) => {
        const { Repo } = await import("/page.js");
        const from = performance.now();
        const repo = await Repo.open({ name: "app" });
        const opened = performance.now();
        const ids = await repo.space(id).list();
        const listed = performance.now();
        const first = await repo.open(ids[0]);
        const read = performance.now();
        const titles = new Set([first.value.title]);
        for (let done = 0; done < ids.length; done += 500) {
          for (const doc of await Promise.all(ids.slice(done, done + 500).map((id) => repo.open(id)))) titles.add(doc.value.title);
        }
        return { count: ids.length, titles: titles.size, times: [opened - from, listed - opened, read - listed, performance.now() - read] };
      }, made.space);
      assert.deepEqual([figures.count, figures.titles], [10_000, 10_000]);
      const [start, list, first, all] = figures.times.map((time) => `${time.toFixed(0)} ms`);
      return `made in ${made.took.toFixed(0)} ms; again: start ${start}, list ${list}, first opened ${first}, all opened ${all}`;
    },

    "a full disk refuses a write by its code, keeps what was acknowledged, and goes on when there is room": async ({ context, url }) => {
      await hook(context);
      const page = await open(context, url);
      return fill(page, (bytes) => tellWorkers(page, { full: bytes }), 600_000);
    },

    "so does the browser's own quota": async ({ context, url }) => {
      const page = await open(context, url);
      const session = await context.newCDPSession(page);
      const origin = url.slice(0, -1);
      return fill(page, (quotaSize) => session.send("Storage.overrideQuotaForOrigin", quotaSize === null ? { origin } : { origin, quotaSize }), 100_000);
    },

    "a relay that is down at the start is found when it comes up": async ({ context, url }) => {
      const port = await freePort();
      const page = await open(context, url, { relay: `ws://127.0.0.1:${port}` });
      const id = await page.evaluate(async () => (await repo.create({ title: "Before" })).id);
      await until(page, () => repo.status.state === "offline" && repo.status.reason);
      const { reason, pending } = await page.evaluate(() => repo.status);
      assert.ok(pending > 0);
      return using(
        () => startRelay({ port }),
        async (relay) => {
          const from = performance.now();
          // As a browser says when its network is there again; without it the next try comes in its turn.
          await page.evaluate(() => window.dispatchEvent(new Event("online")));
          await until(page, isSynced);
          const took = milliseconds(from);
          return using(browse, async (other) => {
            const there = await open(other.context, url, { relay: relay.url });
            const title = await there.evaluate(async (id) => (await repo.find(id, { wait: 20_000 })).value.title, id);
            assert.equal(title, "Before");
            return `"${reason}"; synced after ${took}`;
          });
        },
      );
    },

    "a token that has expired is renewed": ({ context, url }) =>
      using(startRelay, (relay) =>
        using(
          () => startDoor(relay.url, tokens[1]),
          async (door) => {
            const page = await open(context, url, { relay: door.url, token: tokens });
            await until(page, isSynced);
            assert.equal(door.refused, 1);
            const told = await page.evaluate(() => window.statuses.filter(({ error }) => error).map(({ error }) => error.code));
            assert.ok(told.includes("unauthorized"), `${told}`);
            door.expire(tokens[2]);
            await page.evaluate(async () => void (await repo.create({ title: "Later" })));
            await until(page, () => window.tokens.length === 3);
            await until(page, isSynced);
            assert.deepEqual(await page.evaluate(() => window.tokens), tokens.slice(0, 3));
            assert.equal(await page.evaluate(() => repo.status.error), undefined);
            // One that is a text stays refused until the application gives another.
            const fixed = await open(context, url, { name: "fixed", relay: door.url, token: [stale, stale, stale] });
            await until(fixed, () => repo.status.error?.code === "unauthorized");
            await fixed.evaluate((good) => repo.setToken(good), tokens[2]);
            await until(fixed, isSynced);
          },
        ),
      ),

    "private mode: memory, and the status says so": async ({ context, url }) => {
      await context.route("**/worker.js", async (route) => {
        const deny = 'Object.defineProperty(StorageManager.prototype, "getDirectory", { value: () => Promise.reject(new DOMException("denied", "SecurityError")) });';
        const response = await route.fetch();
        await route.fulfill({ response, body: `${deny}\n${await response.text()}` });
      });
      const [a, b] = [await open(context, url), await open(context, url)];
      const id = await a.evaluate(async () => (await repo.create({ title: "Here" })).id);
      assert.equal(await b.evaluate(async (id) => (await repo.find(id, { wait: 5_000 })).value.title, id), "Here");
      for (const page of [a, b]) assert.equal(await page.evaluate(() => repo.status.storage), "memory");
    },

    "a change that traps the engine is quarantined, and the rest works": async ({ context, url }) => {
      await hook(context);
      const page = await open(context, url);
      const { bad, good, before } = await page.evaluate(async () => {
        window.good = await repo.create({ title: "Good", body: text("good") });
        window.bad = await repo.create({ title: "Bad", body: text("bad") });
        // Each splice goes through the loaded document.
        await bad.text("body").splice(0, 0, "1");
        const before = bad.value.body;
        const receipt = await bad.text("body").splice(0, 0, "2");
        await bad.set("title", "Still bad");
        return { good: good.id, bad: { doc: bad.id, hash: receipt.change }, before };
      });
      await page.evaluate(() => repo.close());
      await page.reload();
      await page.evaluate(async () => {
        Object.assign(window, await import("/page.js"));
        window.repo = await Repo.open({ name: "app" });
      });
      await tellWorkers(page, { trap: { ...bad } });
      const from = performance.now();
      const seen = await page.evaluate(
        async ([good, bad]) => {
          window.bad = await repo.open(bad);
          window.good = await repo.open(good);
          // Asking for what only the loaded document knows loads it: the engine traps, is started again, traps once more, and goes on.
          const history = await window.bad.history().catch(({ code }) => code);
          await window.good.text("body").splice(0, 0, "very ");
          await window.good.set("title", "Better");
          const other = await repo.create({ title: "New" });
          return { history: Array.isArray(history) ? history.length : history, good: window.good.value, other: other.value.title, state: window.bad.state };
        },
        [good, bad.doc],
      );
      const took = milliseconds(from);
      assert.deepEqual(seen.good, { title: "Better", body: "very good" });
      assert.equal(seen.other, "New");
      await page.evaluate(() => repo.close());
      await page.reload();
      const after = await page.evaluate(
        async ([good, bad]) => {
          const { connectLink } = await import("/page.js");
          const link = await connectLink({ name: "app" });
          const ask = (...all) => link.request(all[0], all.slice(1)).result;
          return { quarantined: await ask("quarantined", bad), body: await ask("get", bad, ["body"]).catch(({ code }) => code), good: await ask("json", good) };
        },
        [good, bad.doc],
      );
      assert.ok(after.quarantined.some(({ change }) => change === bad.hash), JSON.stringify(after));
      assert.equal(after.good.title, "Better");
      return `${took}; history ${seen.history}, state ${seen.state}, body "${after.body}" (was "${before}")`;
    },

    "who signs out leaves nothing behind, in no tab": async ({ context, url }) =>
      using(startRelay, async (relay) => {
        const [a, b] = [await open(context, url, { relay: relay.url }), await open(context, url, { relay: relay.url })];
        const id = await a.evaluate(async () => (await repo.create({ title: "Mine" })).id);
        await until(b, isSynced);
        assert.deepEqual(await files(a), ["app.complete", "app.redb", "app.redb.rejoin-journal"]);
        // Asked by a tab that does not lead.
        await b.evaluate(() => repo.signOut({ wait: 20_000 }));
        await until(a, () => repo.status.error?.code === "signing_out");
        assert.deepEqual(await files(a), []);
        await b.evaluate(() => openRepo());
        await b.waitForTimeout(200);
        assert.equal(await b.evaluate(() => repo.status.evicted), undefined);
        assert.deepEqual(await b.evaluate(() => repo.list()), []);
        assert.equal(await b.evaluate(async (id) => (await repo.find(id, { wait: 20_000 })).value.title, id), "Mine");
        // Nothing is removed that the relay does not have.
        await b.evaluate(async () => {
          await repo.setOffline(true);
          await repo.create({ title: "Unsent" });
        });
        const code = await b.evaluate(() => repo.signOut({ wait: 200 }).catch(({ code }) => code));
        assert.equal(code, "offline_needed");
        assert.deepEqual(await files(b), ["app.complete", "app.redb", "app.redb.rejoin-journal"]);
      }),
  },
  300,
);

/** Writes until there is no room, looks for what was acknowledged, and writes on when there is. */
async function fill(page, limit, bytes) {
  const id = await page.evaluate(async () => (window.doc = await repo.create({ n: new Counter(0) })).id);
  await limit(bytes);
  const { acked, code, message } = await page.evaluate(async () => {
    let acked = 0;
    for (let i = 0; i < 2000; i++) {
      try {
        // Bytes that do not compress.
        const part = Array.from(crypto.getRandomValues(new Uint8Array(30_000)), (byte) => String.fromCharCode(33 + (byte % 90))).join("");
        await doc.change((draft) => {
          draft.n.increment(1);
          draft[`part ${i}`] = part;
        });
        acked++;
      } catch ({ code, message }) {
        return { acked, code, message };
      }
    }
    return { acked, code: "never" };
  });
  assert.equal(code, "store_full", `${message} after ${acked}`);
  const look = () => page.evaluate((id) => repo.open(id).then((doc) => [Number(doc.value.n), Object.keys(doc.value).length - 1]), id);
  assert.deepEqual(await look(), [acked, acked]);
  await limit(null);
  await page.evaluate(() => doc.change((draft) => {
    draft.n.increment(1);
    draft.last = "there is room";
  }));
  assert.deepEqual(await look(), [acked + 1, acked + 1]);
  await page.evaluate(() => repo.close());
  await page.reload();
  await page.evaluate(async () => {
    Object.assign(window, await import("/page.js"));
    window.repo = await Repo.open({ name: "app" });
  });
  assert.deepEqual(await look(), [acked + 1, acked + 1]);
  return `${acked} writes of 30 kB were acknowledged`;
}
