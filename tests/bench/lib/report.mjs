// RESULTS.md and the charts, of results.json, native.json and what reasons.mjs says. `node lib/report.mjs` makes them again without measuring.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { bars, figure, grid } from "./chart.mjs"
import { peerNames, workloadNames } from "./order.mjs"
import { failures, reasons } from "../reasons.mjs"

const OURS = "rejoin"

/** Writes RESULTS.md and charts/ into a folder. */
export async function writeReport(results, folder) {
  const peers = {}
  for (const name of peerNames()) peers[name] = await import(`../peers/${name}.mjs`)
  const names = workloadNames().filter(name => results.workloads[name])
  mkdirSync(join(folder, "charts"), { recursive: true })
  for (const name of names) writeFileSync(join(folder, "charts", `${name}.svg`), chartOf(results.workloads[name], peers))
  writeFileSync(join(folder, "charts", "overview.svg"), overview(results, names, peers))
  const native = JSON.parse(readFileSync(join(folder, "native.json"), "utf8"))
  const parts = [head(results), ...names.map(name => section(name, results.workloads[name], peers)), losses(results, names, peers), failed(results, names, peers), nativePart(native), durability(peers)]
  writeFileSync(join(folder, "RESULTS.md"), `${parts.join("\n\n")}\n`)
}

function head({ machine, versions, workloads }) {
  const loads = Object.values(workloads).map(({ load }) => load)
  const list = Object.entries(versions).map(([name, version]) => `${name} ${version}`)
  return `# Results

Made by \`make bench\` (\`node run.mjs\` here); [README.md](README.md) says how it is measured. What is missing or failed is shown, not left out.

| | |
|---|---|
| date | ${machine.date} UTC, commit ${machine.commit} |
| machine | ${machine.cpu}, ${machine.memory}, Linux ${machine.kernel}, shared with other work: load of 1 minute ${Math.min(...loads).toFixed(1)} to ${Math.max(...loads).toFixed(1)} |
| Node | ${machine.node} |
| versions | ${list.join(", ")} |

Everything runs in Node: every peer's client as its users' programs have it, and its own server. Each cell is a fresh process with a fresh store, and the
median of the rounds is shown; peers take turns within a round. "x" is that peer's figure divided by ours in the same run: **below 1 it is better than we
are**. CPU is of the client's process and of the server's with its children, over the measured part and 200 ms after it. "Where it is kept" at the end
says what each promises when a write is done, which is not the same: ours is flushed to disk before its promise resolves, and before the relay acknowledges
it or passes it on; nobody else's here is.

![All ratios](charts/overview.svg)`
}

function section(name, work, peers) {
  const rows = entries(work, peers)
  const ours = work.cells[OURS]?.median
  const hasServer = rows.some(([, cell]) => cell.median?.serverCpu !== undefined)
  const columns = ["", ...work.metrics.flatMap(({ title, unit }) => [`${title}, ${unit}`, "x"]), "from - to", "CPU s, client", ...(hasServer ? ["server"] : [])]
  const lines = rows.map(([peer, cell]) => {
    const title = peer === OURS ? `**${peers[peer].title}**` : peers[peer].title
    if (!cell.median) return [title, cell.failed ? `failed: ${cell.failed}` : `none: ${cell.unsupported}`, ...columns.slice(2).map(() => "")]
    const { median } = cell
    const first = cell.rounds.map(round => round[work.metrics[0].key])
    return [
      title,
      ...work.metrics.flatMap(({ key }) => [figure(median[key]), ratioText(ours?.[key], median[key], peer)]),
      first.length > 1 ? `${figure(Math.min(...first))} - ${figure(Math.max(...first))}` : "",
      seconds(median.cpu),
      ...(hasServer ? [seconds(median.serverCpu)] : []),
    ]
  })
  return `## ${work.title}

${work.story} ${work.rounds === 1 ? "One round" : `Median of ${work.rounds} rounds`}, begun ${work.began.slice(0, 16).replace("T", " ")} UTC at a load of ${work.load.toFixed(1)}.

![${work.title}](charts/${name}.svg)

${table(columns, lines)}`
}

function ratioText(ours, theirs, peer) {
  if (peer === OURS || !ours || !theirs) return ""
  const ratio = theirs / ours
  return ratio < 1 ? `**${figure(ratio)}**` : figure(ratio)
}

function losses(results, names, peers) {
  const lines = []
  for (const name of names) {
    const work = results.workloads[name]
    const ours = work.cells[OURS]?.median
    if (!ours) {
      lines.push([work.title, "all", "", `ours failed: ${work.cells[OURS]?.failed}`])
      continue
    }
    for (const { key, title } of work.metrics) {
      const lost = entries(work, peers).filter(([peer, cell]) => peer !== OURS && cell.median?.[key] > 0 && cell.median[key] < ours[key])
      if (lost.length === 0) continue
      const to = lost.map(([peer, cell]) => `${peers[peer].title} ${figure(cell.median[key] / ours[key])}`)
      lines.push([`${work.title.split(":")[0]}: ${title}`, to.join(", "), reasons[`${name}/${key}`] ?? "not explained yet"])
    }
  }
  return `## Where we lose, and why

Every figure of this page where somebody else's is better than ours, made from the tables above.

${table(["figure", "who, and their figure divided by ours", "why"], lines)}`
}

function failed(results, names, peers) {
  const lines = names.flatMap(name => {
    const work = results.workloads[name]
    return entries(work, peers)
      .filter(([, cell]) => cell.failed)
      .map(([peer, cell]) => [work.title.split(":")[0], peers[peer].title, cell.failed, failures[`${name}/${peer}`] ?? "not looked into"])
  })
  return `## What failed, and what we know of it

${lines.length === 0 ? "Nothing." : table(["workload", "peer", "what it says", "what we know"], lines)}`
}

function nativePart({ note, rows }) {
  return `## Native Rust

${note}

${table(["work", "ours", "theirs", "x", "measured by"], rows)}`
}

function durability(peers) {
  const lines = Object.values(peers).map(({ title, document, durable }) => [title, document, durable.client, durable.server ?? "no server"])
  return `## What is a document, and where it is kept

${table(["", "what a document is here", "client: a write is done when it is", "server"], lines)}`
}

function chartOf(work, peers) {
  const [{ key, title, unit }] = work.metrics
  const rows = entries(work, peers).map(([peer, cell]) => {
    const value = cell.median?.[key]
    const text = value === undefined ? (cell.failed ? "failed" : "none") : `${figure(value)} ${unit}`
    return { name: peers[peer].title, value: value ?? 0, text, isOurs: peer === OURS }
  })
  return bars(work.title, `${title}, ${unit}; shorter is better`, rows)
}

function overview(results, names, peers) {
  const columns = peerNames().filter(peer => peer !== OURS)
  const short = { "automerge-repo": "a-repo", hocuspocus: "Hocuspocus", samod: "samod", yjs: "y-websocket", automerge: "Automerge", loro: "Loro", pouchdb: "PouchDB", tinybase: "TinyBase" }
  const rows = names.map(name => {
    const { cells, metrics, title } = results.workloads[name]
    const key = metrics[0].key
    const ours = cells[OURS]?.median?.[key]
    const ratios = columns.map(peer => {
      const cell = cells[peer]
      if (!cell) return ""
      if (!cell.median) return cell.failed ? "failed" : "none"
      return ours ? cell.median[key] / ours : "?"
    })
    return { name: title.split(":")[0], cells: ratios }
  })
  return grid(
    "Every workload's first figure: theirs divided by ours",
    "Green: we need less. Red: they do. Grey: does not apply, or failed.",
    columns.map(peer => short[peer] ?? peers[peer].title),
    rows,
  )
}

function entries(work, peers) {
  return Object.keys(peers).filter(peer => work.cells[peer]).map(peer => [peer, work.cells[peer]])
}

function table(columns, rows) {
  const line = cells => `| ${cells.map(cell => String(cell).replaceAll("|", "\\|")).join(" | ")} |`
  return [line(columns), `|${columns.map(() => "---|").join("")}`, ...rows.map(line)].join("\n")
}

function seconds(milliseconds) {
  return milliseconds === undefined ? "" : (milliseconds / 1000).toFixed(2)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const folder = fileURLToPath(new URL("..", import.meta.url))
  await writeReport(JSON.parse(readFileSync(join(folder, "results.json"), "utf8")), folder)
}
