/**
 * Every example of the documentation compiles and runs: against a model of the engine, or with `REJOIN_ENGINE=real` against the real one.
 */
import { execFileSync } from "node:child_process";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import type { LinkOptions } from "../ts/index.js";
import { root, undocumented, writeExamples } from "./examples.js";
import { FakeEngine, FakeLink, turn } from "./page/fake.js";

const isReal = process.env["REJOIN_ENGINE"] === "real";
/** With the real engine: a relay for the examples that wait for one. Without it those are only compiled. */
const relay = process.env["REJOIN_RELAY"];

const examples = writeExamples();

if (isReal) {
  vi.doMock("../ts/host/link.js", async (original) => {
    const { connectLink } = await original<typeof import("../ts/host/link.js")>();
    const { wasm } = await import("./real/wasm.js");
    return { connectLink: (options: LinkOptions) => connectLink({ ...options, storage: "memory", wasm }) };
  });
} else {
  const engines = new Map<string, FakeEngine>();
  const engineOf = (name: string): FakeEngine => {
    if (!engines.has(name)) engines.set(name, new FakeEngine());
    return engines.get(name) as FakeEngine;
  };
  vi.doMock("../ts/host/link.js", () => ({ connectLink: async ({ name }: { name: string }) => new FakeLink(engineOf(name)) }));
}

describe("the examples", () => {
  beforeAll(() => {
    vi.stubGlobal("fetch", async () => ({ text: async () => "a token" }));
    for (const method of ["log", "warn"] as const) vi.spyOn(console, method).mockImplementation(() => {});
    vi.spyOn(console, "assert").mockImplementation((holds) => expect(holds).toBe(true));
  });
  afterAll(() => {
    vi.restoreAllMocks();
    vi.unstubAllGlobals();
  });

  test("compile", () => {
    expect(examples.length).toBeGreaterThan(40);
    try {
      execFileSync(`${root}node_modules/.bin/tsc`, ["--noEmit", "-p", "test/generated/tsconfig.json"], { cwd: root, encoding: "utf8" });
    } catch (error) {
      expect.fail((error as { stdout: string }).stdout);
    }
  });

  test.each(examples.filter(({ runs, relayed }) => runs && (!relayed || !isReal || relay)))("run: $name", async ({ path }) => {
    const { Repo } = await import("../ts/index.js");
    const repo = await Repo.open({ name: `example-${path.replace(/\W+/g, "-")}`, storage: "memory", ...(relay && { relay }) });
    const doc = await repo.create({ title: "An example" });
    const { run } = (await import(/* @vite-ignore */ path)) as { run: (...args: unknown[]) => Promise<void> };
    await run(repo, doc);
    await turn();
    await repo.close();
  });
});

test("everything public is documented, and what can be called has an example", () => {
  expect(undocumented()).toEqual([]);
});
