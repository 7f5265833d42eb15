import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { expect, it } from "vitest";
import type { MakeGlue } from "../../ts/host/engine.js";
import { guarded } from "../../ts/host/engine.js";
// @ts-expect-error It is a part of the build, which has no types.
import { glueSource } from "../../glue.mjs";

/** The shape of what wasm-bindgen writes: an instance in a variable of the module, and free names of globals. */
const WRITTEN = `
let wasm;
export class Engine {
  static open() { return wasm; }
  static later(task) { queueMicrotask(task); setTimeout(task, 1); }
}
async function init(input) {
  if (wasm !== undefined) return wasm;
  if (input === undefined) input = new URL('rejoin_bg.wasm', import.meta.url);
  wasm = input.module_or_path;
}
export { init as default };
`;

it("each instance of the glue has its own variables, and its timers are those it was given", async () => {
  const directory = mkdtempSync(join(tmpdir(), "rejoin-glue-"));
  try {
    writeFileSync(join(directory, "rejoin.js"), WRITTEN);
    writeFileSync(join(directory, "glue.mjs"), await glueSource(join(directory, "rejoin.js")));
    const { makeGlue } = (await import(/* @vite-ignore */ pathToFileURL(join(directory, "glue.mjs")).href)) as { makeGlue: MakeGlue };
    const traps: unknown[] = [];
    const timers = guarded((error) => traps.push(error));
    const [one, two] = [makeGlue(timers), makeGlue(timers)] as unknown as { default(input: object): Promise<void>; Engine: { open(): unknown; later(task: () => void): void } }[];
    await one!.default({ module_or_path: 1 });
    await two!.default({ module_or_path: 2 });
    expect([one!.Engine.open(), two!.Engine.open()]).toEqual([1, 2]);
    one!.Engine.later(() => {
      throw new Error("trapped");
    });
    await new Promise((resolve) => setTimeout(resolve, 10));
    expect(traps).toHaveLength(2);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
