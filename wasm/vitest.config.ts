import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

const react = (name: string) => ({
  include: ["test/react/**/*.test.tsx"],
  environment: "happy-dom",
  setupFiles: ["test/react/setup.ts"],
  name,
});

export default defineConfig({
  resolve: {
    // The examples in the documentation import the package by its name; the tests give them its source.
    alias: [
      { find: /^rejoin$/, replacement: here("./ts/index.ts") },
      { find: /^rejoin:glue$/, replacement: here("./test/host/fake-engine.ts") },
      { find: /^rejoin\/react$/, replacement: here("./ts/react/index.ts") },
      { find: /^rejoin\/(testing|inline)$/, replacement: here("./ts/$1.ts") },
    ],
  },
  test: {
    // A property test on a loaded machine is slow; a hanging one should still end.
    testTimeout: 60_000,
    projects: [
      { extends: true, test: { name: "page", include: ["test/**/*.test.ts"] } },
      { extends: true, test: react("react-19") },
      {
        extends: true,
        // What the tests import; what those packages import of each other is turned in the setup.
        resolve: { alias: [{ find: /^(react|react-dom)(\/.*)?$/, replacement: "$1-18$2" }] },
        test: { ...react("react-18"), setupFiles: ["test/react/setup-18.ts", "test/react/setup.ts"], env: { REACT: "18" } },
      },
    ],
  },
});
