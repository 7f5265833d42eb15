import { createHash, randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import { documentUrl, encodeBase58, newId, parseDocumentId, parseSpaceId, sha256 } from "../../ts/page/ids.js";

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

describe("sha256", () => {
  test("equals the vectors of FIPS 180-4", () => {
    expect(hex(sha256(new Uint8Array()))).toBe("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    expect(hex(sha256(new TextEncoder().encode("abc")))).toBe("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    const long = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    expect(hex(sha256(new TextEncoder().encode(long)))).toBe("248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  });

  test("equals Node's at every length around a block", () => {
    for (let length = 0; length < 200; length++) {
      const bytes = new Uint8Array(randomBytes(length));
      expect(hex(sha256(bytes))).toBe(createHash("sha256").update(bytes).digest("hex"));
    }
  });
});

describe("ids", () => {
  test("a UUID has the id that automerge-repo gives it", () => {
    expect(parseDocumentId("automerge:4NMNnkMhL8jXrdJ9jamS58PAVdXu")).toBe("4NMNnkMhL8jXrdJ9jamS58PAVdXu");
    const zero = encodeBase58(new Uint8Array(16));
    expect(zero.startsWith("1111111111111111")).toBe(true);
    expect(parseDocumentId(zero)).toBe(zero);
    expect(parseDocumentId("00000000-0000-0000-0000-000000000000")).toBe(zero);
  });

  test("a new id reads back, with and without its URL", () => {
    for (let round = 0; round < 200; round++) {
      const id = newId();
      expect(parseDocumentId(id)).toBe(id);
      expect(parseDocumentId(documentUrl(id))).toBe(id);
    }
  });

  test("a mistyped id is refused", () => {
    const id = newId();
    const other = id[5] === "z" ? "y" : "z";
    for (const wrong of [id.slice(0, 5) + other + id.slice(6), "", "0OIl", id + id, "automerge:", `${id}!`]) {
      expect(() => parseDocumentId(wrong), wrong).toThrow(expect.objectContaining({ code: "bad_argument" }));
    }
  });

  test("a space's id is written like a document's", () => {
    const id = newId();
    expect(parseSpaceId(id)).toBe(id);
    expect(() => parseSpaceId("xyz")).toThrow(expect.objectContaining({ code: "bad_argument" }));
  });
});
