import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig({
  resolve: {
    // The tests run against the package's source, so that they need no build of it.
    alias: [{ find: /^rejoin$/, replacement: here("../wasm/ts/index.ts") }],
  },
  test: {
    include: ["test/**/*.test.ts", "test/**/*.test.tsx"],
    environment: "happy-dom",
    // A property test on a loaded machine is slow; a hanging one should still end.
    testTimeout: 60_000,
  },
});
