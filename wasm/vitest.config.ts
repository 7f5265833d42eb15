import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig({
  resolve: {
    // The examples in the documentation import the package by its name; the tests give them its source.
    alias: [
      { find: /^rejoin$/, replacement: here("./ts/index.ts") },
      { find: /^rejoin\/react$/, replacement: here("./ts/react/index.ts") },
      { find: /^rejoin\/(testing|inline)$/, replacement: here("./ts/$1.ts") },
    ],
  },
  test: {
    include: ["test/**/*.test.ts", "test/**/*.test.tsx"],
    // A property test on a loaded machine is slow; a hanging one should still end.
    testTimeout: 60_000,
  },
});
