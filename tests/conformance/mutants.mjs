#!/usr/bin/env node
// Shows that the kit tells: servers that are right except for one rule, and the session that notices each.
//
//   node mutants.mjs --server "COMMAND OF A SERVER THAT PASSES"
import { readFileSync } from "node:fs"
import { parseArgs } from "node:util"
import { Server } from "./lib/server.mjs"
import { checkFrames } from "./lib/frames.mjs"
import { play } from "./lib/world.mjs"
import { proxy } from "./mutants/proxy.mjs"
import * as classic from "./mutants/classic.mjs"
import * as v1 from "./mutants/v1.mjs"

const { values: options } = parseArgs({ options: { server: { type: "string" }, patience: { type: "string", default: "20000" } } })

/** Where a mutant is noticed by what does not come, it is not waited for long. */
const HASTY_MS = 1_000

const sessionOf = (protocol, name) => ({
  name,
  ...JSON.parse(readFileSync(new URL(`${protocol}/sessions/${name}.json`, import.meta.url))),
})

/** Plays the session that is to notice a mutant: first without it, then with it. Returns what is wrong, or null. */
async function hunt(server, protocol, { session: name, why, make, names }) {
  const session = sessionOf(protocol, name)
  const patience = Number(options.patience)
  const honest = await proxy(server.url, () => ({}))
  const before = await play(session, protocol, { url: honest.url, headers: {}, patience }).finally(honest.stop)
  if (before) return { wrong: `${name} fails without the mutant: ${before.why}` }
  const lying = await proxy(server.url, make, { names })
  const isSlow = why.source.includes("in vain")
  const after = await play(session, protocol, { url: lying.url, headers: {}, patience: isSlow ? HASTY_MS : patience }).finally(lying.stop)
  if (!after) return { wrong: `${name} passes` }
  if (!why.test(after.why)) return { wrong: `${name} fails for another reason: ${after.why}` }
  return { caught: `${name}, step ${after.step}: ${after.why.slice(0, 140)}` }
}

/** Golden frames that say what is not so: each has to be noticed. Returns how many were, and how many not. */
function doctored(protocol) {
  const lies = {
    "another meaning": frame => (frame.valid ? { ...frame, meaning: { ...frame.meaning, lie: 1 } } : { ...frame, error: "a-lie" }),
    "the other validity": frame => ({ ...frame, valid: !frame.valid, meaning: frame.meaning ?? {}, error: frame.error ?? "a-lie" }),
  }
  return Object.values(lies).reduce(
    ([noticed, passed], lie) => {
      const { count, wrong } = checkFrames(protocol, lie)
      return [noticed + wrong.length, passed + count - wrong.length]
    },
    [0, 0],
  )
}

async function main() {
  if (!options.server) {
    console.log('node mutants.mjs --server "COMMAND OF A SERVER THAT PASSES"')
    return 2
  }
  const server = new Server(options.server)
  let [caught, missed] = [0, 0]
  try {
    await server.start()
    for (const [protocol, { MUTANTS }] of Object.entries({ classic, v1 })) {
      for (const [name, mutant] of Object.entries(MUTANTS)) {
        const found = await hunt(server, protocol, mutant)
        if (found.wrong) missed += 1
        else caught += 1
        console.log(`${(found.wrong ? "MISSED" : "caught").padEnd(8)}  ${protocol.padEnd(7)}  ${name.padEnd(50)}  ${found.wrong ?? found.caught}`)
      }
    }
  } finally {
    server.stop()
  }
  for (const protocol of ["classic", "v1"]) {
    const [noticed, passed] = doctored(protocol)
    console.log(`${passed === 0 ? "caught" : "MISSED"}    ${protocol.padEnd(7)}  ${noticed + passed} golden frames that lie, ${passed} of them unnoticed`)
    if (passed === 0) caught += 1
    else missed += 1
  }
  console.log(`${caught} caught, ${missed} missed`)
  return missed === 0 ? 0 : 1
}

process.exit(await main())
