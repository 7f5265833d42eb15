import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { at, between, clamp, Editor, replay, share, spliceBetween, type Step } from "../../ts/page/snapshot.js";
import { Counter, decode, type Tagged, type Value } from "./wire.js";

const apply = (value: Value, ...steps: Step[]): Value => {
  const editor = new Editor(value);
  for (const step of steps) expect(editor.apply(step), JSON.stringify(step)).toBe(true);
  return editor.finish();
};

const tree = fc.letrec<{ value: Tagged }>((tie) => ({
  value: fc.oneof(
    { depthSize: "small" },
    fc.constantFrom<Tagged>(null, true, 1, 2, "", "tea", "te😀a", "😁", { $counter: 3 }, { $date: 5 }, { $bytes: "01" }),
    fc.array(tie("value"), { maxLength: 5 }),
    fc.dictionary(fc.constantFrom("a", "b", "c"), tie("value")),
  ),
})).value;

describe("steps", () => {
  const base = decode({ a: { x: 1 }, list: [{ n: 1 }, { n: 2 }], body: "hello", votes: { $counter: 1 } });

  test("leave what they do not touch as it was", () => {
    const next = apply(base, ["set", ["list", 1, "n"], 3]) as typeof base & { a: unknown; list: Value[] };
    expect(next).toEqual({ ...(base as object), list: [{ n: 1 }, { n: 3 }] });
    expect(next.a).toBe((base as typeof next).a);
    expect(next.list[0]).toBe((base as typeof next).list[0]);
    expect(Object.isFrozen(next) && Object.isFrozen(next.list)).toBe(true);
    expect(at(base, ["list", 1, "n"])).toBe(2);
  });

  test("do each what they say", () => {
    const all = apply(
      base,
      ["insert", ["list"], 1, ["new"]],
      ["remove", ["list"], 0, 1],
      ["splice", ["body"], 5, 0, " world"],
      ["remove", ["body"], 0, 1],
      ["insert", ["body"], 0, [{}]],
      ["increment", ["votes"], 4],
      ["delete", ["a"]],
      ["insert", ["made"], 0, [1]],
      ["splice", ["typed"], 0, 0, "x"],
      ["mark", ["body"]],
    );
    expect(all).toEqual({ list: ["new", { n: 2 }], body: "\uFFFCello world", votes: new Counter(5), made: [1], typed: "x" });
    expect(apply(base, ["all", null])).toBe(null);
  });

  test("count on where all together counted more than one may", () => {
    const most = Number.MAX_SAFE_INTEGER;
    const all = apply(decode({ votes: { $counter: most * 2 } }), ["increment", ["votes"], most]) as { votes: Counter };
    expect([all.votes instanceof Counter, all.votes.value, `${all.votes}`]).toEqual([true, most * 3, String(most * 3)]);
    expect(() => new Counter(most * 2)).toThrow(expect.objectContaining({ code: "bad_value" }));
  });

  test("that delete what is not there change nothing and fit: it was made and deleted between two looks", () => {
    const editor = new Editor(decode({ a: 1 }));
    expect(editor.apply(["delete", ["none"]])).toBe(true);
    expect(editor.finish()).toEqual({ a: 1 });
  });

  test("that do not fit change nothing and say so", () => {
    const wrong: Step[] = [
      ["set", ["none", "x"], 1],
      ["set", ["list", 2], 1],
      ["set", ["list", "x"], 1],
      ["set", ["a", 0], 1],
      ["set", [], 1],
      ["increment", ["body"], 1],
      ["splice", ["body"], 3, 9, ""],
      ["splice", ["list"], 0, 0, "x"],
      ["insert", ["list"], 3, [1]],
      ["insert", ["a"], 0, [1]],
      ["remove", ["list"], 1, 2],
    ];
    for (const step of wrong) {
      const editor = new Editor(base);
      expect(editor.apply(step), JSON.stringify(step)).toBe(false);
      expect(editor.finish()).toEqual(base);
    }
  });

  test("are cut to what is there when they are replayed", () => {
    expect(clamp(base, ["remove", ["list"], 1, 9])).toEqual(["remove", ["list"], 1, 1]);
    expect(clamp(base, ["remove", ["list"], 5, 1])).toBeUndefined();
    const steps: Step[] = [["splice", ["body"], 9, 1, "!"], ["set", ["gone", "x"], 1], ["insert", ["list"], 7, [3]]];
    expect(replay(base, [{ steps }])).toEqual({ ...(base as object), body: "hello!", list: [{ n: 1 }, { n: 2 }, 3] });
    expect(replay(base, [])).toBe(base);
  });

  test("between two states lead from one to the other", () => {
    fc.assert(
      fc.property(tree, tree, (old, now) => {
        const [before, after] = [decode({ root: old }), decode({ root: now })];
        expect(apply(before, ...between(before, after))).toEqual(after);
      }),
      { numRuns: 500 },
    );
  });

  test("a splice between strings is small and parts no surrogate pair", () => {
    expect(spliceBetween("hello world", "hello brave world")).toEqual([6, 0, "brave "]);
    expect(spliceBetween("😀", "😁")).toEqual([0, 2, "😁"]);
    expect(spliceBetween("x", "x")).toBeUndefined();
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom("a", "b", "😀", "😁", "🌀") }), fc.string({ unit: fc.constantFrom("a", "b", "😀", "😁", "🌀") }), (old, now) => {
        const [index, count, insert] = spliceBetween(old, now) ?? [0, 0, ""];
        expect(old.slice(0, index) + insert + old.slice(index + count)).toBe(now);
        expect(insert).not.toMatch(/\p{Surrogate}/u);
        expect(old.slice(index, index + count)).not.toMatch(/\p{Surrogate}/u);
      }),
      { numRuns: 500 },
    );
  });
});

describe("sharing", () => {
  test("keeps the old of whatever is equal", () => {
    fc.assert(
      fc.property(tree, tree, (old, now) => {
        const [before, after] = [decode(old), decode(now)];
        expect(share(before, after)).toEqual(after);
        expect(share(before, decode(old))).toBe(before);
      }),
      { numRuns: 500 },
    );
  });

  test("reaches below what differs", () => {
    const before = decode({ a: [{ x: 1 }], b: { y: 2 } }) as { a: unknown[]; b: unknown };
    const after = share(before, decode({ a: [{ x: 1 }], b: { y: 3 } }) as typeof before);
    expect(after.a).toBe(before.a);
    expect(after.b).toEqual({ y: 3 });
  });
});
