#!/usr/bin/env node
// Plays the kit's sessions against a server. See README.md.
//
//   node run.mjs --protocol classic|v1 --url ws://host:port/ [--filter TEXT]
//   node run.mjs --protocol classic|v1 --server "COMMAND" [--filter TEXT]
//   node run.mjs --frames
import { readdirSync, readFileSync } from "node:fs"
import { parseArgs } from "node:util"
import { checkFrames } from "./lib/frames.mjs"
import { Server } from "./lib/server.mjs"
import { play } from "./lib/world.mjs"

const { values: options } = parseArgs({
  options: {
    url: { type: "string" },
    server: { type: "string" },
    protocol: { type: "string" },
    filter: { type: "string", default: "" },
    implementation: { type: "string", default: "" },
    patience: { type: "string", default: "20000" },
    header: { type: "string", multiple: true, default: [] },
    frames: { type: "boolean", default: false },
    strict: { type: "boolean", default: false },
    list: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
})

/** The sessions of a protocol, in the order of their files' names. */
function sessions(protocol) {
  const folder = new URL(`${protocol}/sessions/`, import.meta.url)
  const files = readdirSync(folder).filter(file => file.endsWith(".json")).sort()
  return files.map(file => ({ name: file.slice(0, -5), ...JSON.parse(readFileSync(new URL(file, folder))) }))
}

/** How a session went, in a word, and what there is to say of it. */
function judge(session, failure) {
  const known = session.deviations?.[options.implementation]
  if (failure === null) {
    if (!known) return { word: "passed" }
    return { word: "FAILED", says: `it passes, and is said to deviate: ${known.reason}` }
  }
  const what = `step ${failure.step} (${failure.does}): ${failure.why}`
  if (known?.step === failure.step) return { word: "deviates", says: `${known.reason} [${what}]` }
  if (known) return { word: "FAILED", says: `it is said to deviate in step ${known.step}, and does in ${what}` }
  return session.level === "may" && !options.strict ? { word: "not met", says: what } : { word: "FAILED", says: what }
}

async function main() {
  if (options.frames) return frames()
  if (options.help || !["classic", "v1"].includes(options.protocol) || (!options.url && !options.server && !options.list)) {
    console.log(readFileSync(new URL(import.meta.url)).toString().split("\n").slice(1, 6).join("\n"))
    return options.help ? 0 : 2
  }
  const chosen = sessions(options.protocol).filter(({ name }) => name.includes(options.filter))
  if (options.list) {
    chosen.forEach(({ name, level, title }) => console.log(`${level.padEnd(4)}  ${name.padEnd(34)}  ${title}`))
    return 0
  }
  const server = options.server ? new Server(options.server) : null
  const counts = { passed: 0, FAILED: 0, deviates: 0, "not met": 0 }
  try {
    await server?.start()
    let failure = null
    for (const session of chosen) {
      await server?.ready({ afterFailure: failure !== null })
      const headers = Object.fromEntries(options.header.map(line => line.split(/:\s*/, 2)))
      const url = server?.url ?? options.url
      // Where it is known to deviate, mostly nothing comes: that is not waited for as long as for what must come.
      const hasty = session.deviations?.[options.implementation]?.step
      failure = await play(session, options.protocol, { url, headers, patience: Number(options.patience), hasty })
      const { word, says } = judge(session, failure)
      counts[word] += 1
      console.log(`${word.padEnd(8)}  ${session.level.padEnd(4)}  ${session.name.padEnd(34)}  ${session.title}`)
      if (says) console.log(`${" ".repeat(16)}${says}`)
    }
  } finally {
    server?.stop()
  }
  const others = [[counts.deviates, "known deviations"], [counts["not met"], "optional not met"], [server?.deaths ?? 0, "deaths of the server"]]
  console.log([`${counts.passed} passed, ${counts.FAILED} failed`, ...others.filter(([count]) => count > 0).map(([count, what]) => `${count} ${what}`)].join(", "))
  return counts.FAILED === 0 && chosen.length > 0 ? 0 : 1
}

function frames() {
  let [passed, failed] = [0, 0]
  for (const protocol of options.protocol ? [options.protocol] : ["classic", "v1"]) {
    const { count, wrong } = checkFrames(protocol)
    wrong.forEach(line => console.log(`FAILED    ${line}`))
    console.log(`${protocol}: ${count} golden frames`)
    passed += count - wrong.length
    failed += wrong.length
  }
  console.log(`${passed} passed, ${failed} failed`)
  return failed === 0 ? 0 : 1
}

process.exitCode = await main()
