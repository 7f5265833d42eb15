import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";
import { glueSource } from "./glue.mjs";

/** With `REJOIN_ENGINE=real`: the tests of the real engine, from `pkg/` (`node build.mjs` makes it). */
const isReal = process.env["REJOIN_ENGINE"] === "real";

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

const react = (name: string) => ({
  include: ["test/react/**/*.test.tsx"],
  environment: "happy-dom",
  setupFiles: ["test/react/setup.ts"],
  name,
});

const glue = here(isReal ? "./pkg/glue.mjs" : "./test/host/fake-engine.ts");
if (isReal) writeFileSync(glue, await glueSource(here("./pkg/rejoin.js")));

const model = [
  { extends: true as const, test: { name: "page", include: ["test/**/*.test.ts"], exclude: ["test/{real,interop}/**"] } },
  { extends: true as const, test: react("react-19") },
  {
    extends: true as const,
    // What the tests import; what those packages import of each other is turned in the setup.
    resolve: { alias: [{ find: /^(react|react-dom)(\/.*)?$/, replacement: "$1-18$2" }] },
    test: { ...react("react-18"), setupFiles: ["test/react/setup-18.ts", "test/react/setup.ts"], env: { REACT: "18" } },
  },
];

const real = [{ extends: true as const, test: { name: "real", include: ["test/{real,interop}/**/*.test.ts", "test/examples.test.ts"] } }];

export default defineConfig({
  resolve: {
    // The examples in the documentation import the package by its name; the tests give them its source.
    alias: [
      { find: /^rejoin$/, replacement: here("./ts/index.ts") },
      { find: /^rejoin:glue$/, replacement: glue },
      { find: /^rejoin\/react$/, replacement: here("./ts/react/index.ts") },
      { find: /^rejoin\/(testing|inline)$/, replacement: here("./ts/$1.ts") },
    ],
  },
  test: {
    // A property test on a loaded machine is slow; a hanging one should still end.
    testTimeout: 60_000,
    projects: isReal ? real : model,
  },
});
