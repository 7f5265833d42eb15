import { describe, expect, it } from "vitest";
import { readHash, type Route, toHash, tokenId, tokenIn } from "../src/route.ts";

const ids = { space: "4WkxVLcwHnCzdg3VjUuPhDKqL8fV", index: "2vBn6xYQjRmTeKkZsPwHgFdC3aUo" };
const token = `rjs_0123456789abcdef_${"aB3-_".repeat(8)}xyz`;

describe("route", () => {
  it("reads every address that it writes", () => {
    for (const board of [null, "3mHxbqjVzWgQd7cZkT1u"]) {
      for (const shown of [null, token]) {
        const route: Route = { ...ids, board, token: shown };
        expect(readHash(toHash(route))).toEqual(route);
        expect(tokenIn(toHash(route))).toBe(shown);
      }
    }
  });

  it("tells a broken link from no link", () => {
    expect(readHash("")).toBeNull();
    expect(readHash("#/")).toBeNull();
    expect(readHash("#/help")).toBeNull();
    const whole = toHash({ ...ids, board: null, token });
    for (const broken of ["#/w/", `#/w/${ids.space}`, `#/w/${ids.space}/0OIl`, `#/r/${ids.space}/${ids.index}`, `${whole.slice(0, -60)}`, whole.replace("rjs_", "rjt_"), `${whole}/a/b`]) {
      expect(readHash(broken), broken).toBe("broken");
      expect(tokenIn(broken), broken).toBeNull();
    }
  });

  it("names a token without its secret", () => {
    expect(tokenId(token)).toBe("0123456789abcdef");
  });
});
