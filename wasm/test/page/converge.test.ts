/**
 * Whatever is edited here and elsewhere, in whatever order messages arrive, refusals and take-overs included: after quiet the page shows what the
 * engine has, and patches have led every subscriber from snapshot to snapshot.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Counter, Repo, text } from "../../ts/index.js";
import type { WireOp } from "../../ts/page/link.js";
import type { Value } from "../../ts/page/values.js";
import { FakeEngine, FakeLink, turn } from "./fake.js";
import { follow } from "./steps.js";

interface Shape {
  title: string;
  list: (number | { n: number })[];
  body: string;
  votes: Counter;
  map: Record<string, number>;
}

type Act =
  | { do: "up" | "down" | "turn" | "restart" | "refuse" }
  | { do: "mine" | "theirs"; what: "set" | "push" | "insert" | "remove" | "type" | "erase" | "count" | "delete" | "deep"; at: number; value: number };

const act: fc.Arbitrary<Act> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant("up" as const) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("down" as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("turn" as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom("restart" as const, "refuse" as const) }) },
  {
    weight: 9,
    arbitrary: fc.record({
      do: fc.constantFrom("mine" as const, "theirs" as const),
      what: fc.constantFrom("set" as const, "push" as const, "insert" as const, "remove" as const, "type" as const, "erase" as const, "count" as const, "delete" as const, "deep" as const),
      at: fc.nat(9),
      value: fc.nat(99),
    }),
  },
);

/** What somebody else does, at places that exist or not. */
function theirs(value: Shape, what: string, at: number, number: number): WireOp {
  const index = (length: number): number => at % (length + 1);
  switch (what) {
    case "set":
      return ["set", ["title"], `theirs ${number}`];
    case "push":
      return ["insert", ["list"], value.list.length, [{ n: number }]];
    case "insert":
      return ["insert", ["list"], index(value.list.length), [number, number]];
    case "remove":
      return ["remove", ["list"], index(value.list.length), 1];
    case "type":
      return ["splice", ["body"], index(value.body.length), 0, "AB"];
    case "erase":
      return ["splice", ["body"], index(value.body.length), 2, ""];
    case "count":
      return ["increment", ["votes"], number];
    case "delete":
      return ["delete", ["map", `k${at % 3}`]];
    default:
      return ["set", ["map", `k${at % 3}`], number];
  }
}

/** What this page does. */
function mine(doc: Awaited<ReturnType<typeof make>>["doc"], what: string, at: number, number: number): Promise<unknown> {
  const { list, body } = doc.value;
  switch (what) {
    case "set":
      return doc.set("title", `mine ${number}`);
    case "push":
      return doc.change((d) => d.list.push({ n: number }));
    case "insert":
      return doc.change((d) => d.list.splice(at, at % 2, number, number + 1));
    case "remove":
      return doc.change((d) => d.list.pop());
    case "type":
      return doc.text("body").splice(at % (body.length + 1), 0, "xy");
    case "erase":
      return doc.text("body").update(body.slice(0, at % (body.length + 1)));
    case "count":
      return doc.increment("votes");
    case "delete":
      return doc.delete(["map", `k${at % 3}`]);
    default:
      return doc.change((d) => {
        const first = d.list.find((item): item is { n: number } => typeof item === "object");
        if (first) first.n = number;
        d.map[`k${at % 3}`] = number;
        d.votes.increment(2);
      });
  }
}

async function make() {
  const engine = new FakeEngine();
  const link = new FakeLink(engine, true);
  const drain = async (): Promise<void> => {
    do await turn();
    while (link.up() || link.down());
  };
  const settle = async (): Promise<void> => {
    for (let round = 0; round < 4; round++) await drain();
  };
  const opening = Repo.open({ name: "test", link });
  await settle();
  const repo = await opening;
  const creating = repo.create<Shape>({ title: "", list: [1, { n: 2 }], body: text("hello"), votes: new Counter(), map: {} });
  await settle();
  return { engine, link, settle, repo, doc: await creating };
}

describe("after quiet", () => {
  test("the page shows what the engine has", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(act, { maxLength: 60 }), async (acts) => {
        const { engine, link, settle, doc } = await make();
        const followed = follow(doc);
        const errors: unknown[] = [];
        const failed: unknown[] = [];
        const listen = (error: unknown): void => void errors.push(error);
        process.on("uncaughtException", listen);
        try {
          for (const one of acts) {
            if (one.do === "up") link.up();
            else if (one.do === "down") link.down();
            else if (one.do === "turn") await turn();
            else if (one.do === "restart") engine.restart();
            else if (one.do === "refuse") engine.failures.push("store_full");
            else if (!("what" in one)) continue;
            else if (one.do === "theirs") engine.remote(doc.id, theirs(engine.docs.get(doc.id)?.value as unknown as Shape, one.what, one.at, one.value));
            else mine(doc, one.what, one.at, one.value).catch((error: unknown) => failed.push(error));
          }
          engine.failures = [];
          await settle();
          await settle();
        } finally {
          process.off("uncaughtException", listen);
        }
        expect(errors).toEqual([]);
        expect(failed.filter((error) => !["store_full", "wrong_path"].includes((error as { code: string }).code))).toEqual([]);
        expect(doc.value).toEqual(engine.docs.get(doc.id)?.value);
        followed();
        expect(doc.pending).toBe(0);
        expect(doc.heads).toEqual(engine.docs.get(doc.id)?.heads);
      }),
      { numRuns: Number(process.env["REJOIN_RUNS"] ?? 100) },
    );
  });
});
