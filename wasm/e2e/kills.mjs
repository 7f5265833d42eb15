/**
 * Ends pages, workers, renderers and whole browsers at random moments while they write, and looks for whatever had been acknowledged.
 *
 *   node e2e/kills.mjs [rounds] [seed]      20 rounds by default; the seed is printed, and replays the choices
 */
import assert from "node:assert/strict";
import { ask, browse, serve, startWriting, tab, words } from "./browser.mjs";

const rounds = Number(process.argv[2] ?? 20);
const seed = Number(process.argv[3] ?? Date.now() % 1_000_000);
let state = seed;
/** A number below `below`. */
const pick = (below) => {
  state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
  return (state >>> 8) % below;
};

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const acknowledged = async (pages) => (await Promise.all(pages.map((page) => page.evaluate(() => window.written).catch(() => 0)))).reduce((a, b) => a + b, 0);

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

console.log(`seed ${seed}`);
const server = await serve();
let browser = await browse();
const first = await tab(browser.context, server.url);
await words.make(first);
await first.evaluate(() => window.link.close());
await first.close();
let known = 0;
const counts = {};
for (let round = 0; round < rounds; round++) {
  const way = Object.keys(WAYS)[pick(Object.keys(WAYS).length)];
  counts[way] = (counts[way] ?? 0) + 1;
  const pages = [];
  for (let i = 0; i < 2; i++) pages.push(await tab(browser.context, server.url, { options: { ownWorker: true } }));
  for (const page of pages) await startWriting(page);
  await sleep(20 + pick(150));
  // Counted before the end: what is acknowledged after this only makes the total larger.
  const before = await acknowledged(pages);
  await sleep(pick(20));
  await WAYS[way]({ pages, browser });
  if (way === "the browser is killed") {
    await browser.close(true);
    browser = await browse(browser.profile);
  } else {
    await sleep(100);
    for (const page of pages) await page.evaluate(() => (window.isWriting = false)).catch(() => {});
  }
  const looker = await tab(browser.context, server.url);
  const total = await words.total(looker);
  assert.ok(total >= known + before, `round ${round}, ${way}: ${total} of ${known + before}`);
  known = total;
  for (const page of [...pages, looker]) await page.close().catch(() => {});
}
// The last word is the disk's.
await browser.close(true);
browser = await browse(browser.profile);
assert.ok((await words.total(await tab(browser.context, server.url))) >= known);
await browser.close();
server.close();
console.log(`ok    ${rounds} rounds, ${known} writes, nothing acknowledged is missing: ${JSON.stringify(counts)}`);
process.exit(0);
