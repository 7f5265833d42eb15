// What the figures were measured on, and with which versions.

import { execFileSync } from "node:child_process"
import { readFileSync } from "node:fs"
import { cpus, loadavg, release, totalmem } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { packageDist } from "./binaries.mjs"

const root = fileURLToPath(new URL("../../..", import.meta.url))

/** The machine and how busy it is, now. */
export function machine() {
  return {
    date: new Date().toISOString().slice(0, 16).replace("T", " "),
    cpu: `${cpus().length} x ${cpus()[0].model}`,
    memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
    kernel: release(),
    node: process.version,
    load: loadavg().map(load => load.toFixed(1)).join(" "),
    commit: said("git", ["rev-parse", "--short", "HEAD"]),
  }
}

/** The version of every package that a peer names. */
export async function versionsOf(peers) {
  const versions = {}
  for (const peer of peers) for (const name of (await import(`../peers/${peer}.mjs`)).packages) versions[name] ??= versionOf(name)
  return versions
}

function versionOf(name) {
  if (name === "rejoin") return JSON.parse(readFileSync(join(packageDist, "../package.json"), "utf8")).version
  if (name === "samod") return /name = "samod"\nversion = "(.*)"/.exec(readFileSync(join(root, "Cargo.lock"), "utf8"))[1]
  const lock = JSON.parse(readFileSync(fileURLToPath(new URL("../package-lock.json", import.meta.url)), "utf8"))
  return lock.packages[`node_modules/${name}`].version
}

function said(program, args) {
  try {
    return execFileSync(program, args, { cwd: root, stdio: ["ignore", "pipe", "ignore"] }).toString().trim()
  } catch {
    return "unknown"
  }
}
