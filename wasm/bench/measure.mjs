/** What the benchmarks share: a median of several runs, and a table of it. */
import { cpus } from "node:os";

/** The middle of several numbers. */
export const median = (numbers) => [...numbers].sort((a, b) => a - b)[numbers.length >> 1];

/** CPU milliseconds of this process, all threads, while a function runs. */
export async function cpu(run) {
  const before = process.cpuUsage();
  await run();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

/**
 * Measures each case `runs` times, in turn, so that a noisy minute hits all of them, and returns the medians in milliseconds. A case is a function
 * that returns what is measured; its first run is thrown away.
 */
export async function medians(cases, runs = 7) {
  const found = Object.fromEntries(Object.keys(cases).map((name) => [name, []]));
  for (let run = 0; run <= runs; run++) {
    for (const [name, measure] of Object.entries(cases)) {
      const milliseconds = await measure(run);
      if (run > 0) found[name].push(milliseconds);
    }
  }
  return Object.fromEntries(Object.entries(found).map(([name, all]) => [name, median(all)]));
}

/** Prints rows as a table of Markdown. */
export function table(title, head, rows) {
  console.log(`\n${title}\n`);
  for (const row of [head, head.map(() => "---"), ...rows]) console.log(`| ${row.join(" | ")} |`);
}

/** Prints what it was measured on. */
export function machine(more = "") {
  console.log(`${new Date().toISOString().slice(0, 10)}, ${cpus().length} x ${cpus()[0]?.model ?? "CPU"}, Node ${process.version}${more}`);
}

/** Rounds for a table. */
export const round = (milliseconds) => (milliseconds < 0.1 ? milliseconds.toFixed(4) : milliseconds < 10 ? milliseconds.toFixed(2) : milliseconds.toFixed(0));
