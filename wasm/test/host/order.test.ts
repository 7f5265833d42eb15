import { describe, expect, test } from "vitest";
// @ts-expect-error It is part of the build, which is no TypeScript.
import { bySimilarity, namedBySimilarity } from "../../scripts/order.mjs";

/** Code of a function: `length` instructions that depend on `kind`, with one of its own in the middle. */
function body(kind: number, own: number, length = 40): Uint8Array {
  const bytes = Uint8Array.from({ length }, (_, place) => (place * (kind + 7) * 31) % 251);
  bytes[length / 2] = own;
  return bytes;
}

describe("bySimilarity", () => {
  test("puts copies that differ in one byte next to each other", () => {
    const kinds = [3, 1, 2, 1, 3, 2, 2, 1, 3];
    const order: number[] = bySimilarity(kinds.map((kind, index) => body(kind, index)));
    const places = order.map((index) => kinds[index]);
    expect(places.filter((kind, place) => kind !== places[place - 1])).toHaveLength(3);
  });

  test("gives each function one place, those without code included", () => {
    const functions = [...Array(50)].map((_, index) => body(index % 7, index, 2 * (index % 9)));
    const order: number[] = bySimilarity(functions);
    expect([...order].sort((one, other) => one - other)).toEqual(functions.map((_, index) => index));
  });
});

describe("namedBySimilarity", () => {
  const section = (id: number, ...bytes: number[]) => [id, bytes.length, ...bytes];
  /** Imports `a.b`, and has three functions that return a constant. */
  const module = Uint8Array.from([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, 1, 0x60, 0, 1, 0x7f),
    ...section(2, 1, 1, 0x61, 1, 0x62, 0, 0),
    ...section(3, 3, 0, 0, 0),
    ...section(7, 1, 1, 0x63, 0, 2),
    ...section(10, 3, 4, 0, 0x41, 9, 0x0b, 4, 0, 0x41, 5, 0x0b, 4, 0, 0x41, 7, 0x0b),
    ...section(0, 4, 0x6e, 0x61, 0x6d, 0x65),
  ]);

  test("names every function that is not imported, and leaves the rest as it is", () => {
    const named = new WebAssembly.Module(namedBySimilarity(module));
    const names = new Uint8Array(WebAssembly.Module.customSections(named, "name")[0]!);
    // A map of three names, of the functions 1 to 3: by their bytes the order is 5, 7, 9.
    expect(new TextDecoder("latin1").decode(names)).toBe("\x01\x0d\x03\x01\x02f2\x02\x02f0\x03\x02f1");
    const { exports } = new WebAssembly.Instance(named, { a: { b: () => 0 } });
    expect((exports["c"] as () => number)()).toBe(5);
  });

  test("does not take an import that it cannot count", () => {
    const unknown = module.slice();
    unknown[unknown.indexOf(0x62) + 1] = 9;
    expect(() => namedBySimilarity(unknown)).toThrow("an import of kind 9 is not known");
  });
});
