/** Reads the examples out of the README and the sources' documentation, and makes modules of them. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("../", import.meta.url));
const generated = `${root}test/generated/`;

/** A name that a module gives to its users. */
interface Export {
  name: string;
  type: boolean;
}

/** The package's entries, and the sources whose examples are written with them. */
const ENTRIES: { module: string; entry: string; sources: RegExp }[] = [
  { module: "rejoin", entry: "ts/index.ts", sources: /^ts\/(page\/|index)/ },
  { module: "rejoin/react", entry: "ts/react/index.ts", sources: /^ts\/react\// },
  { module: "rejoin/testing", entry: "ts/testing.ts", sources: /^ts\/testing/ },
];

export interface Example {
  /** Where it stands: file and line. */
  name: string;
  /** The module made of it; it exports `run(repo, doc)`. */
  path: string;
  /** Whether it is run, not only compiled: a component needs something to show it. */
  runs: boolean;
  /** Whether it waits for a relay. */
  relayed: boolean;
}

/** Lists the TypeScript sources, from the package's directory. */
export function sources(directory = "ts"): string[] {
  return readdirSync(root + directory, { withFileTypes: true }).flatMap((entry) => {
    const path = `${directory}/${entry.name}`;
    return entry.isDirectory() ? sources(path) : /(?<!\.d)\.tsx?$/.test(path) ? [path] : [];
  });
}

/** Reads what an entry exports: by its `export { a, type b } from` lines, or directly. */
export function exportsOf(entry: string): Export[] {
  const text = readFileSync(root + entry, "utf8");
  const direct = [...text.matchAll(/^export (?:async )?(function|class|const|interface|type) (\w+)/gm)];
  const named = [...text.matchAll(/export (type )?\{([^}]*)\}/g)].flatMap(([, allTypes, names]) =>
    (names ?? "")
      .split(",")
      .map((name) => name.trim())
      .filter((name) => name)
      .map((name) => ({ name: name.replace(/^type /, "").replace(/^.* as /, ""), type: allTypes !== undefined || name.startsWith("type ") })),
  );
  return [...named, ...direct.map(([, kind, name]) => ({ name: name ?? "", type: kind === "interface" || kind === "type" }))];
}

/** What the examples of components leave out: each is one component of an application. */
const STAGE = `import { type ReactElement, Suspense, useEffect } from "react";
type Todo = { title: string; done: boolean };
declare const id: string;
declare const Title: (props: { id: string }) => ReactElement;
declare const Todos: () => ReactElement;`;

const importOf = (module: string, names: Export[]): string =>
  `import { ${names.map(({ name, type }) => (type ? `type ${name}` : name)).join(", ")} } from "${module}";`;

/** Takes the code blocks of the README as examples. Each stands for itself; A block that says `relay` waits for one. */
function readmeExamples(): Example[] {
  const text = readFileSync(`${root}README.md`, "utf8");
  return [...text.matchAll(/^```(tsx?)([^\n]*)\n([\s\S]*?)^```$/gm)].map((match) => {
    const line = text.slice(0, match.index).split("\n").length;
    const code = match[3] ?? "";
    const imports = code.match(/^import .*$/gm) ?? [];
    const body = code.replace(/^import .*$/gm, "");
    const base = 'import type { Doc as AnyDoc, Repo as AnyRepo } from "rejoin";';
    const path = `${generated}README_${line}.${match[1]}`;
    const runs = match[1] === "ts";
    const made = runs ? `export async function run(repo: AnyRepo, doc: AnyDoc<{ title: string }>): Promise<void> {\n  {\n${body}  }\n}\n` : body;
    writeFileSync(path, `${[...(runs ? [base] : []), ...imports].join("\n")}\n${made}`);
    return { name: `README.md:${line}`, path, runs, relayed: match[2]?.includes("relay") ?? false };
  });
}

/** Writes every example as a module of its own, and returns them. */
export function writeExamples(): Example[] {
  rmSync(generated, { recursive: true, force: true });
  mkdirSync(generated, { recursive: true });
  const examples = readmeExamples();
  for (const path of sources()) {
    const entry = ENTRIES.find((candidate) => candidate.sources.test(path));
    if (!entry || !existsSync(root + entry.entry)) continue;
    const text = readFileSync(root + path, "utf8");
    for (const match of text.matchAll(/@example[^\n]*\n\s*\* ```(tsx?)([^\n]*)\n([\s\S]*?)\* ```/g)) {
      const line = text.slice(0, match.index).split("\n").length;
      const code = (match[3] ?? "").replace(/^\s*\* ?/gm, "");
      const imports = code.match(/^import .*$/gm) ?? [];
      const body = code.replace(/^import .*$/gm, "");
      const own = entry.module === "rejoin" ? [] : imports.length ? [] : [importOf(entry.module, exportsOf(entry.entry))];
      const base = imports.some((one) => one.includes('"rejoin"')) ? 'import type { Doc, Repo } from "rejoin";' : importOf("rejoin", exportsOf("ts/index.ts"));
      const file = `${generated}${path.replace(/^ts\//, "").replace(/\W/g, "_")}_${line}.${match[1]}`;
      // In a block of its own, so that an example may have a `doc` of its own.
      const made = `${[base, ...own, ...imports, ...(match[1] === "tsx" ? [STAGE] : [])].join("\n")}\nexport async function run(repo: Repo, doc: Doc<{ title: string }>): Promise<void> {\n  {\n${body}  }\n}\n`;
      writeFileSync(file, made);
      examples.push({ name: `${path}:${line}`, path: file, runs: match[1] === "ts" && !match[2]?.includes("no-run"), relayed: /"relayed"|waitSynced\(/.test(code) });
    }
  }
  writeFileSync(`${generated}tsconfig.json`, JSON.stringify({ extends: "../../tsconfig.json", compilerOptions: { rootDir: "../.." }, include: [".", "../../ts/host/*.d.ts"], exclude: [] }));
  return examples;
}

/** Finds what is public and lacks a comment, or an example where it can be called. */
export function undocumented(): string[] {
  const names = new Set(exportsOf("ts/index.ts").map(({ name }) => name));
  const lacking: string[] = [];
  for (const path of sources().filter((source) => source.startsWith("ts/page/"))) {
    const lines = readFileSync(root + path, "utf8").split("\n");
    let inside = "";
    lines.forEach((line, index) => {
      const comment = commentAbove(lines, index);
      const top = /^export (?:declare )?(?:abstract )?(class|function|interface|type|const) (\w+)/.exec(line);
      if (top) {
        const [, kind, name] = top as unknown as [string, string, string];
        inside = kind === "class" && names.has(name) ? name : "";
        if (!names.has(name)) return;
        if (!comment) lacking.push(`${path}: ${name} has no comment`);
        else if ((kind === "class" || kind === "function") && !comment.includes("@example")) lacking.push(`${path}: ${name} has no example`);
      }
      const member = /^ {2}(?:static )?(?:async )?(get )?(\w+)(?:<.*)?\(.*\{$/.exec(line);
      if (!member || !inside || /^(constructor|valueOf|toJSON|toString|if|for|while|switch)$/.test(member[2] ?? "")) return;
      // Where there are overloads, the first one has the comment.
      let first = index;
      while (new RegExp(`^ {2}${member[2]}[<(].*;$`).test(lines[first - 1] ?? "")) first--;
      const above = commentAbove(lines, first);
      if (above.includes("@internal")) return;
      if (!above) lacking.push(`${path}: ${inside}.${member[2]} has no comment`);
      else if (!member[1] && !above.includes("@example")) lacking.push(`${path}: ${inside}.${member[2]} has no example`);
    });
  }
  return lacking;
}

function commentAbove(lines: string[], index: number): string {
  if (!lines[index - 1]?.trim().endsWith("*/")) return "";
  let first = index - 1;
  while (!lines[first]?.trim().startsWith("/**")) first--;
  return lines.slice(first, index).join("\n");
}
