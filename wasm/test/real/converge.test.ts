/**
 * Pages on the real engine: several of them on one, with messages that wait, and repos that exchange. After quiet every page shows what the
 * engine has, and what its subscribers were told leads there.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Counter, type Doc, Repo, text } from "../../ts/index.js";
import type { Tagged } from "../../ts/page/link.js";
import { decode, type Value } from "../../ts/page/values.js";
import { exchange } from "../../ts/testing.js";
import { follow } from "../page/steps.js";
import { type Edit, edits, make, type Shape } from "./edits.js";
import { open } from "./open.js";
import { SharedEngine, turn } from "./shared.js";

const content = (): Shape => ({
  title: "",
  list: [1, { n: 2 }, "three"],
  body: text("hello 👍"),
  votes: new Counter(),
  counts: [new Counter(), new Counter(5)],
  map: { k0: { n: 1 } },
  also: { title: "", votes: new Counter() },
});

const RUNS = Number(process.env["REJOIN_RUNS"] ?? 40);
const TIMEOUT = 60_000 + RUNS * 500;

/** Runs a test, and fails where a subscriber of it fails. */
async function watchingErrors(run: () => Promise<void>): Promise<void> {
  const errors: unknown[] = [];
  const listen = (error: unknown): void => void errors.push(error);
  process.on("uncaughtException", listen);
  try {
    await run();
  } finally {
    process.off("uncaughtException", listen);
  }
  expect(errors).toEqual([]);
}

type Act = { page: number; do: "up" | "down" | "turn" | "hold" | "release" | "restart" } | ({ page: number; do: "edit" } & Edit);

const act: fc.Arbitrary<Act> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ page: fc.nat(2), do: fc.constantFrom("up" as const, "down" as const, "turn" as const) }) },
  { weight: 2, arbitrary: fc.record({ page: fc.nat(2), do: fc.constantFrom("hold" as const, "hold" as const, "release" as const) }) },
  { weight: 10, arbitrary: fc.tuple(fc.nat(2), edits).map(([page, edit]) => ({ page, do: "edit" as const, ...edit })) },
);
const restart: fc.Arbitrary<Act> = fc.constant({ page: 0, do: "restart" });

async function play(acts: Act[]): Promise<void> {
  const engine = new SharedEngine();
  await engine.start();
  const pages = [engine.page(), engine.page(), engine.page()];
  const repos = await Promise.all(pages.map(({ link }) => Repo.open({ name: "test", link })));
  const first = await (repos[0] as Repo).create<Shape>(content());
  const docs = [first, ...(await Promise.all(repos.slice(1).map((repo) => repo.find<Shape>(first.id))))];
  const followed = docs.map(follow);
  const done: Promise<unknown>[] = [];
  for (const one of acts) {
    const page = pages[one.page] as (typeof pages)[0];
    if (one.do === "edit") done.push(make(docs[one.page] as Doc<Shape>, one));
    else if (one.do === "turn") await turn();
    else if (one.do === "restart") await engine.restart();
    else if (one.do === "hold") page.isHeld = true;
    else page[one.do]();
  }
  for (const page of pages) page.release();
  for (const result of await Promise.allSettled(done)) if (result.status === "rejected") throw result.reason;
  const ask = async (method: string): Promise<unknown> => pages[0]?.link.request(method, [first.id]).result;
  for (let round = 0; round < 2_000; round++) {
    const heads = ((await ask("heads")) as string[]).sort();
    await turn();
    if (docs.every((doc) => JSON.stringify([...doc.heads].sort()) === JSON.stringify(heads))) break;
  }
  await turn();
  const stored = decode((await ask("json")) as Tagged);
  for (const doc of docs) expect(doc.value).toEqual(stored);
  for (const check of followed) check();
  await engine.server.close();
}

describe("several pages on one engine", () => {
  test("show the same after quiet", async () => {
    await watchingErrors(() => fc.assert(fc.asyncProperty(fc.array(act, { maxLength: 60 }), play), { numRuns: RUNS }));
  }, TIMEOUT);

  test("show the same after another engine took over", async () => {
    const acts = fc.array(fc.oneof({ weight: 12, arbitrary: act }, { weight: 1, arbitrary: restart }), { maxLength: 60 });
    await watchingErrors(() => fc.assert(fc.asyncProperty(acts, play), { numRuns: Math.ceil(RUNS / 2) }));
  }, TIMEOUT);

  // The engine makes the edit of a field on top of what others wrote and this page has not seen. An edit that stands on it and has indices, too, is
  // meant in a state without that, which has no heads. Edits of fields would have to be made where the page is, as all others are.
  test.fails("place an edit with an index that writes a field again, while its first write and somebody's insertion are under way", () =>
    play([
      { page: 0, do: "hold" },
      { page: 1, do: "edit", what: "insert", at: 0, value: 0 },
      ...Array.from({ length: 20 }, () => ({ page: 1, do: "turn" as const })),
      { page: 0, do: "edit", what: "set", at: 0, value: 0 },
      { page: 0, do: "edit", what: "both", at: 0, value: 0 },
    ]));
});

describe("repos that exchange", () => {
  test("show the same after quiet", async () => {
    const step = fc.oneof({ weight: 8, arbitrary: fc.tuple(fc.nat(1), edits) }, { weight: 1, arbitrary: fc.constant("exchange" as const) });
    const run = async (steps: ("exchange" | [number, Edit])[]): Promise<void> => {
      const repos = [await open(), await open()] as const;
      const mine = await repos[0].create<Shape>(content());
      await exchange(...repos);
      const docs = [mine, await repos[1].find<Shape>(mine.id)];
      const followed = docs.map(follow);
      for (const one of [...steps, "exchange" as const]) {
        // Not waited for: those of one turn travel together.
        if (one !== "exchange") make(docs[one[0]] as Doc<Shape>, one[1]).catch((error: unknown) => expect.fail(String(error)));
        else {
          await exchange(...repos);
          expect(docs[1]?.value).toEqual(docs[0]?.value);
          expect([...(docs[1]?.heads ?? [])].sort()).toEqual([...(docs[0]?.heads ?? [])].sort());
          for (const check of followed) check();
        }
      }
      await Promise.all(repos.map((repo) => repo.close()));
    };
    await watchingErrors(() => fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 40 }), run), { numRuns: Math.ceil(RUNS / 2) }));
  }, TIMEOUT);
});
