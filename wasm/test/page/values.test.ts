import { describe, expect, test } from "vitest";
import { Counter, decode, encode, text, Unknown } from "../../ts/page/values.js";

const round = (value: unknown): unknown => decode(JSON.parse(JSON.stringify(encode(value))));

describe("values", () => {
  test("every kind comes back as it went", () => {
    const value = {
      nothing: null,
      yes: true,
      integer: -3,
      float: 1.5,
      word: "tea",
      when: new Date(1_700_000_000_000),
      bytes: new Uint8Array([0, 15, 255]),
      votes: new Counter(7),
      large: 2n ** 63n - 1n,
      larger: 2n ** 64n - 1n,
      small: -(2n ** 63n),
      huge: 1e300,
      endless: -Infinity,
      list: [1, [2, { three: 3 }]],
      strange: new Unknown(12, new Uint8Array([9])),
    };
    expect(round(value)).toEqual(value);
    expect(round(Number.NaN)).toBeNaN();
  });

  test("an integer that fits a number is a number, a text reads as a string", () => {
    expect(round(5n)).toBe(5);
    expect(round({ body: text("tea") })).toEqual({ body: "tea" });
  });

  test("they travel in the agreed form", () => {
    expect(encode({ a: new Date(5), b: new Counter(2), c: text("x"), d: new Uint8Array([171]), e: 2n ** 60n, f: 2n ** 63n, g: NaN })).toEqual({
      a: { $date: 5 },
      b: { $counter: 2 },
      c: { $text: "x" },
      d: { $bytes: "ab" },
      e: { $int: String(2n ** 60n) },
      f: { $uint: String(2n ** 63n) },
      g: { $float: "NaN" },
    });
  });

  test("a real key that looks like a tag is told from one", () => {
    const value = { $date: 1, $$text: "x", $other: 2, inner: { $counter: "no" } };
    expect(encode({ $date: 1 })).toEqual({ $$date: 1 });
    expect(round(value)).toEqual(value);
  });

  test("a key named __proto__ is a key", () => {
    const read = decode(JSON.parse('{"__proto__": {"evil": true}, "a": 1}')) as Record<string, unknown>;
    expect(Object.keys(read)).toEqual(["__proto__", "a"]);
    expect(read["evil"]).toBeUndefined();
    expect(Object.keys(encode(read) as object)).toEqual(["__proto__", "a"]);
  });

  test("undefined is refused with advice", () => {
    expect(() => encode({ a: undefined }, "doc")).toThrow(expect.objectContaining({ code: "bad_value", message: "doc.a is undefined: leave the key out, delete it, or use null" }));
  });

  test("what a document cannot hold is refused by its place", () => {
    const cycle: Record<string, unknown> = {};
    cycle["self"] = cycle;
    for (const value of [() => 1, Symbol("x"), new Map(), new Date(NaN), 2n ** 64n, cycle, /x/]) {
      expect(() => encode({ a: [value] }, "doc")).toThrow(expect.objectContaining({ code: "bad_value", message: expect.stringContaining("doc.a[0]") }));
    }
  });

  test("snapshots are frozen outside production", () => {
    expect(Object.isFrozen((decode({ a: [{}] }) as { a: object[] }).a[0])).toBe(true);
  });

  test("half a character is refused wherever it stands, and a whole one is not", () => {
    for (const value of ["\ud83d", "a\ude00", text("\ud83d"), { deep: [{ "\ude00": 1 }] }, ["\ud83dx"]]) {
      expect(() => encode(value)).toThrow(expect.objectContaining({ code: "bad_value", message: expect.stringContaining("half a character") }));
    }
    expect(encode({ "😀": ["😀"] })).toEqual({ "😀": ["😀"] });
  });

  test("a counter beyond what a number holds exactly is read all the same, and counts in drafts only", () => {
    const counter = decode({ $counter: "9007199254740993" }) as Counter;
    expect(counter.value).toBe(2 ** 53);
    expect(() => counter.increment()).toThrow(expect.objectContaining({ code: "unsupported" }));
    expect(() => new Counter().decrement()).toThrow(expect.objectContaining({ code: "unsupported" }));
  });
});
