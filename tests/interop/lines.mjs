// JSON lines over stdin and stdout: the only way the programs of this folder talk to the test that started them.
//
// Import this module first. It sends everything the libraries print to stderr, so that stdout carries replies and
// nothing else, and it makes a process end when its stdin closes, so that a test that dies leaves no process behind.

import { createInterface } from "node:readline"

for (const name of ["log", "info", "debug", "warn", "trace"]) {
  console[name] = (...args) => console.error(...args)
}

/** Writes one value as one line on stdout. */
export function emit(value) {
  process.stdout.write(JSON.stringify(value) + "\n")
}

/**
 * Calls `onLine` for each line of stdin that is not blank, and `onEnd` once when stdin closes. The process exits when
 * `onEnd` settles, or after two seconds if it does not.
 */
export function readLines(onLine, onEnd = async () => {}) {
  const reader = createInterface({ input: process.stdin, terminal: false })
  reader.on("line", line => {
    if (line.trim() !== "") onLine(line.trim())
  })
  reader.on("close", () => exitAfter(onEnd))
}

/** Runs `last`, then exits with code 0 once stdout is drained; a hanging `last` is given two seconds. */
export function exitAfter(last) {
  const exit = () => process.stdout.write("", () => process.exit(0))
  setTimeout(exit, 2000)
  Promise.resolve()
    .then(last)
    .catch(error => console.error("failed to shut down cleanly:", error))
    .then(exit)
}

/** Answers the line `cpu` with what this process has used so far: CPU in microseconds, resident memory in bytes. */
export function answerCpu(line) {
  if (line !== "cpu") return false
  const { user, system } = process.cpuUsage()
  emit({ cpu_user_us: user, cpu_system_us: system, rss: process.memoryUsage.rss() })
  return true
}
