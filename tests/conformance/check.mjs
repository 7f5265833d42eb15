#!/usr/bin/env node
// Checks that the sessions are in order: what each says it proves stands on the protocol's page, and its steps are steps.
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { changeOf } from "./lib/sync.mjs"
import { STEPS } from "./lib/world.mjs"

const ROOT = new URL("../../", import.meta.url)
const NAMES = ["alice", "bob", "carol", "dave"]
const KEYS = ["title", "level", "proves", "documents", "long_documents", "spaces", "peers", "deviations", "steps"]
const wrong = []

/** A page as text that sentences can be looked for in: without line breaks, and without what only draws tables and lists. */
const plain = text => text.replace(/^\s*(?:-|\d+\.)\s+/gm, "").replace(/\s+/g, " ").replace(/\s*\|(\s*\|)*\s*/g, "|")

/** The text under a heading, up to the next one of any level. */
function sections(page) {
  const found = new Map()
  for (const part of page.split(/^#+ /m).slice(1)) {
    const end = part.indexOf("\n")
    const heading = part.slice(0, end).trim()
    found.set(heading, `${found.get(heading) ?? ""} ${plain(part.slice(end))}`)
  }
  return found
}

const pages = new Map()
function section(page, heading) {
  if (!pages.has(page)) pages.set(page, existsSync(new URL(page, ROOT)) ? sections(readFileSync(new URL(page, ROOT)).toString()) : null)
  return pages.get(page)?.get(heading)
}

function checkSession(protocol, file, session) {
  const say = text => wrong.push(`${protocol}/sessions/${file}: ${text}`)
  Object.keys(session).filter(key => !KEYS.includes(key)).forEach(key => say(`${key} is no part of a session`))
  if (!session.title) say("it has no title")
  if (!["must", "may"].includes(session.level)) say(`the level ${session.level} is neither must nor may`)
  if (!session.proves?.length) say("it proves nothing")
  for (const { page, heading, sentence } of session.proves ?? []) {
    const text = section(page, heading)
    if (text === undefined) say(`${page} has no heading "${heading}"`)
    else if (!text.includes(plain(sentence))) say(`"${sentence}" does not stand under "${heading}" of ${page}`)
  }
  session.steps.forEach((step, index) => {
    if (!(step.do in STEPS[protocol])) say(`step ${index + 1} does "${step.do}"`)
    if (step.do !== "is" && !NAMES.includes(step.who)) say(`step ${index + 1} is by ${step.who}`)
  })
  for (const [implementation, { step, reason }] of Object.entries(session.deviations ?? {})) {
    if (!(step >= 1 && step <= session.steps.length) || !reason) say(`the deviation of ${implementation} names no step or no reason`)
  }
}

let count = 0
const deviations = new Map()
for (const protocol of ["classic", "v1"]) {
  const folder = new URL(`${protocol}/sessions/`, import.meta.url)
  for (const file of readdirSync(folder)) {
    count += 1
    const session = JSON.parse(readFileSync(new URL(file, folder)))
    checkSession(protocol, file, session)
    Object.keys(session.deviations ?? {}).forEach(name => deviations.set(name, (deviations.get(name) ?? 0) + 1))
  }
}
// What README.md tells of others is what the sessions say.
const readme = readFileSync(new URL("README.md", import.meta.url)).toString()
const classic = readdirSync(new URL("classic/sessions/", import.meta.url)).length
const rows = [
  `| Rejoin relay, classic | ${classic} | none |`,
  `| Rejoin relay, \`rejoin.v1\` | ${count - classic} | none |`,
  `| automerge-repo 2.5.6 | ${classic - deviations.get("automerge-repo")} | ${deviations.get("automerge-repo")} |`,
  `| samod 0.16 | ${classic - deviations.get("samod")} | ${deviations.get("samod")} |`,
]
rows.filter(row => !readme.includes(row)).forEach(row => wrong.push(`README.md lacks the row ${row}`))
const material = JSON.parse(readFileSync(new URL("material.json", import.meta.url)))
for (const [name, { hex, hash, deps }] of Object.entries(material.changes)) {
  const change = changeOf(hex)
  if (change?.hash !== hash || change.deps.join() !== deps.join()) wrong.push(`material.json: ${name} has another hash or other dependencies`)
}
wrong.forEach(line => console.log(`WRONG  ${line}`))
console.log(`${count} sessions, ${wrong.length} wrong`)
process.exitCode = wrong.length === 0 && count > 100 ? 0 : 1
