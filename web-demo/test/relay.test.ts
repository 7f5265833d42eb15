import { afterEach, describe, expect, it, vi } from "vitest";
import { makeReadLink, revokeLink, shareUrl } from "../src/relay.ts";

const answers = (status: number, body?: unknown): ReturnType<typeof vi.fn<typeof fetch>> => {
  const fake = vi.fn<typeof fetch>(async () => new Response(body === undefined ? null : JSON.stringify(body), { status }));
  vi.stubGlobal("fetch", fake);
  return fake;
};

afterEach(() => vi.unstubAllGlobals());

describe("read-only links", () => {
  it("are asked for where the WebSocket is", () => {
    expect(shareUrl("ws://127.0.0.1:3030/")).toBe("http://127.0.0.1:3030/share");
    expect(shareUrl("wss://relay.example")).toBe("https://relay.example/share");
    expect(shareUrl("wss://relay.example/sync/", "0123456789abcdef")).toBe("https://relay.example/sync/share/0123456789abcdef");
  });

  it("allow to read for a week, and nothing else of the answer is kept", async () => {
    const fake = answers(201, { id: "0123456789abcdef", token: "rjs_0123456789abcdef_x", expires: 1_800_000_000, more: 1 });
    expect(await makeReadLink("4WkxVLcw")).toEqual({ id: "0123456789abcdef", token: "rjs_0123456789abcdef_x", expires: 1_800_000_000 });
    const [, request] = fake.mock.calls[0] ?? [];
    expect(JSON.parse(String(request?.body))).toEqual({ space: "4WkxVLcw", access: "read", expires_in_seconds: 604_800 });
  });

  it("that cannot be had are explained in words", async () => {
    answers(401, { title: "Unauthorized", code: "token-missing", detail: "a token is needed" });
    await expect(makeReadLink("4WkxVLcw")).rejects.toThrow("signed in");
    answers(503, { title: "Service Unavailable", detail: "the store cannot be used: try again later" });
    await expect(makeReadLink("4WkxVLcw")).rejects.toThrow("The relay refused: the store cannot be used: try again later");
    answers(500, "no object at all");
    await expect(makeReadLink("4WkxVLcw")).rejects.toThrow("500");
    answers(201, { id: 7 });
    await expect(makeReadLink("4WkxVLcw")).rejects.toThrow("does not understand");
    vi.stubGlobal("fetch", () => Promise.reject(new TypeError("failed to fetch")));
    await expect(makeReadLink("4WkxVLcw")).rejects.toThrow("cannot be reached");
  });

  it("that are gone already are as good as taken back", async () => {
    const fake = answers(404, { code: "not-found" });
    await revokeLink("0123456789abcdef");
    expect(fake.mock.calls[0]?.[1]?.method).toBe("DELETE");
    answers(503);
    await expect(revokeLink("0123456789abcdef")).rejects.toThrow("503");
  });
});
