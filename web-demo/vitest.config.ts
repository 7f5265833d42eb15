import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { defineConfig, type Plugin } from "vitest/config";

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/** Gives the package's source its engine as the package's build does, where that has been built. */
function engine(): Plugin {
  const source = here("../wasm/pkg/rejoin.js");
  return {
    name: "engine",
    resolveId: (id) => (id === "rejoin:glue" ? `\0${id}` : undefined),
    async load(id) {
      if (id !== "\0rejoin:glue") return undefined;
      if (!existsSync(source)) return "export const makeGlue = undefined;";
      const { glueSource } = (await import(here("../wasm/glue.mjs"))) as { glueSource: (path: string) => Promise<string> };
      // A module is strict anyway, and a function with such parameters may not say so.
      return (await glueSource(source)).replace('"use strict";', "");
    },
  };
}

export default defineConfig({
  plugins: [engine()],
  resolve: {
    // The tests run against the package's source, so that they need no build of it.
    alias: [
      { find: /^rejoin$/, replacement: here("../wasm/ts/index.ts") },
      { find: /^rejoin\/testing$/, replacement: here("../wasm/ts/testing.ts") },
    ],
  },
  test: {
    include: ["test/**/*.test.ts", "test/**/*.test.tsx"],
    environment: "happy-dom",
    // A property test on a loaded machine is slow; a hanging one should still end.
    testTimeout: 60_000,
  },
});
