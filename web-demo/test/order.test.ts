import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { inOrder, keyBetween } from "../src/order.ts";

describe("order", () => {
  it("makes a key between any two that it has made, however often", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(), { minLength: 1, maxLength: 200 }), (places) => {
        const keys: string[] = [];
        for (const place of places) {
          const at = place % (keys.length + 1);
          keys.splice(at, 0, keyBetween(keys[at - 1], keys[at]));
        }
        expect(keys).toEqual([...keys].sort());
        expect(new Set(keys).size).toBe(keys.length);
      }),
    );
  });

  it("keeps keys short where cards are added at the end", () => {
    let key = "";
    for (let card = 0; card < 1_000; card++) key = keyBetween(key);
    // Some 30 cards a digit: 36 digits on average, with a deviation of 3 by the random digits.
    expect(key.length).toBeLessThan(60);
  });

  it("never ends a key in a zero, before which nothing would fit", () => {
    for (let card = 0, key = ""; card < 500; card++) expect((key = keyBetween("", key))).not.toMatch(/0$/);
  });

  it("sorts by id where keys are equal, so that all see the same", () => {
    expect(inOrder({ b: { order: "V" }, a: { order: "V" }, c: { order: "K" } }).map(([id]) => id)).toEqual(["c", "a", "b"]);
  });
});
