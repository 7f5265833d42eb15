/**
 * Ends pages, workers, renderers and whole browsers at random moments while they write, and looks for whatever had been acknowledged.
 *
 *   node e2e/kills.mjs [rounds] [seed]      20 rounds by default; the seed is printed, and replays the choices
 *
 * Each write does two things in one edit: it counts one up, and it sets a key of its own. So the count equals the number of keys as long as
 * nothing is done twice, and each key that was acknowledged must be there. Every other write inserts its key into a list instead, where it
 * must not be twice.
 */
import assert from "node:assert/strict";
import { ask, browse, newId, serve, tab } from "./browser.mjs";

const rounds = Number(process.argv[2] ?? 20);
const seed = Number(process.argv[3] ?? Date.now() % 1_000_000);
let state = seed;
/** A number below `below`. */
const pick = (below) => {
  state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
  return (state >>> 8) % below;
};

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const WAYS = {
  "the leader's page is closed": async ({ pages }) => pages[0].close(),
  "the leader's renderer is killed": async ({ pages }) => {
    const crashed = new Promise((resolve) => pages[0].once("crash", resolve));
    const session = await pages[0].context().newCDPSession(pages[0]);
    session.send("Page.crash").catch(() => {});
    await crashed;
  },
  "the leader's worker ends": async ({ pages }) => pages[0].evaluate(() => window.worker.terminate()),
  "the browser is killed": async ({ browser }) => browser.kill(),
};

/** Begins to write without end, several writes at a time. */
const write = (page, doc, name) =>
  page.evaluate(
    ([doc, name]) => {
      let next = 0;
      window.acked = [];
      window.refused = [];
      window.isWriting = true;
      const edit = (key, isOdd) => (isOdd ? [["insert", ["log"], 0, [key]]] : [["increment", ["n"], 1], ["set", ["keys", key], 1]]);
      window.writers = Array.from({ length: 4 }, async () => {
        while (window.isWriting) {
          const isOdd = ++next % 2 === 1;
          const key = `${name}${next}`;
          await window.ask("edit", doc, null, edit(key, isOdd), {}).then(
            () => window.acked.push(key),
            (error) => window.refused.push(String(error.code)),
          );
        }
      });
    },
    [doc, name],
  );

/** What was acknowledged so far; nothing of a page that is gone. */
const acked = async (pages) => (await Promise.all(pages.map((page) => page.evaluate(() => window.acked).catch(() => [])))).flat();

/** Lets those that are still there finish, and says what they were promised. */
const finish = (pages) =>
  Promise.all(
    pages.map((page) =>
      page
        .evaluate(async () => {
          window.isWriting = false;
          await Promise.all(window.writers);
          return { acked: window.acked, refused: window.refused };
        })
        .catch(() => ({ acked: [], refused: [] })),
    ),
  );

/** Looks whether what was promised is there, and nothing twice; returns how many writes there are. */
async function check(page, doc, promised, where) {
  const { n, keys, log } = await ask(page, "json", doc);
  const count = Object.keys(keys).length;
  assert.equal(Number(n.$counter ?? n), count, `${where}: the count and the number of keys`);
  assert.equal(new Set(log).size, log.length, `${where}: a key is twice in the list`);
  const all = new Set([...Object.keys(keys), ...log]);
  const missing = promised.filter((key) => !all.has(key));
  assert.deepEqual(missing, [], `${where}: acknowledged, and not there`);
  return all.size;
}

console.log(`seed ${seed}`);
const server = await serve();
let browser = await browse();
const known = [];
const counts = {};
let failed = 0;
let last = 0;
for (let round = 0; round < rounds; round++) {
  const way = Object.keys(WAYS)[pick(Object.keys(WAYS).length)];
  const doc = newId();
  const where = `round ${round}, ${way}`;
  counts[way] = (counts[way] ?? 0) + 1;
  try {
    const pages = [];
    for (let i = 0; i < 2; i++) pages.push(await tab(browser.context, server.url, { options: { ownWorker: true } }));
    await ask(pages[0], "create", doc, null, { n: { $counter: 0 }, keys: {}, log: [] });
    for (const [i, page] of pages.entries()) await write(page, doc, `${"ab"[i]}`);
    await sleep(20 + pick(150));
    // What is acknowledged after this and dies with its page nobody knows of.
    const before = await acked(pages);
    await sleep(pick(20));
    await WAYS[way]({ pages, browser });
    let promised = before;
    if (way === "the browser is killed") {
      await browser.close(true);
      browser = await browse(browser.profile);
    } else {
      await sleep(100);
      const ends = await finish(pages);
      assert.deepEqual(ends.flatMap(({ refused }) => refused), [], `${where}: refused`);
      promised = [...new Set([...before, ...ends.flatMap((end) => end.acked)])];
    }
    const looker = await tab(browser.context, server.url);
    await check(looker, doc, promised, where);
    known.push({ doc, promised, where });
    for (const page of [...pages, looker]) await page.close().catch(() => {});
  } catch (error) {
    failed++;
    console.log(`FAIL  ${where}: ${error.message}`);
    await browser.close(true);
    browser = await browse(browser.profile);
  }
}
// The last word is the disk's.
await browser.close(true);
browser = await browse(browser.profile);
const looker = await tab(browser.context, server.url);
let writes = 0;
let promises = 0;
for (const { doc, promised, where } of known) {
  try {
    writes += await check(looker, doc, promised, `${where}, at the end`);
    promises += promised.length;
  } catch (error) {
    failed++;
    last++;
    console.log(`FAIL  ${error.message}`);
  }
}
await browser.close();
server.close();
console.log(`${writes} writes in ${known.length} documents, ${promises} of them acknowledged before the end: ${JSON.stringify(counts)}`);
console.log(`${rounds - failed + last} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
