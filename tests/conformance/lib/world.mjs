// A session that is being played: its variables, its clients, its steps.
import { randomBytes } from "node:crypto"
import { readFileSync } from "node:fs"
import { hex, toBase58Check } from "./bytes.mjs"
import { Failure } from "./client.mjs"
import { fill, mismatch } from "./match.mjs"
import { STEPS as CLASSIC } from "./classic-client.mjs"
import { STEPS as V1 } from "./v1-client.mjs"

/** How long is waited where nothing is expected to come. */
const HASTY_MS = 1_000

const MATERIAL = JSON.parse(readFileSync(new URL("../material.json", import.meta.url)))

/** Steps of both protocols. */
const COMMON = {
  expect: async (world, { who, message, between, never, save = {} }) => {
    const found = await world.client(who).expect(message, { between, never })
    for (const [name, path] of Object.entries(save)) {
      world.variables.set(name, path.split(".").reduce((value, key) => value?.[key], found))
    }
  },
  expect_close: (world, step) => world.client(step.who).expectClose(step),
  nothing: (world, { who, message, milliseconds = 300 }) => world.client(who).nothing(message, milliseconds),
  is_open: (world, { who }) => {
    const { closed } = world.client(who)
    if (closed) throw new Failure(`the server closed ${who} with ${closed.code} (${closed.reason})`)
  },
  is: (_, { value, match }) => {
    const why = mismatch(match, value)
    if (why) throw new Failure(why)
  },
  close: (world, { who }) => world.forget(who),
}

/** What each step does, by protocol. */
export const STEPS = { classic: { ...COMMON, ...CLASSIC }, v1: { ...COMMON, ...V1 } }

class World {
  constructor(session, protocol, { url, headers, patience }) {
    Object.assign(this, { url, headers, patience })
    this.clients = new Map()
    this.variables = new Map(Object.entries(MATERIAL.changes).flatMap(([name, { hash, hex: bytes }]) => [[name, hash], [`${name}.hex`, bytes]]))
    Object.entries(MATERIAL.bad).forEach(([name, { hex: bytes }]) => this.variables.set(`${name}.hex`, bytes))
    this.variables.set("unknown", MATERIAL.unknown).set("home", "00".repeat(16))
    // Everything that a server might remember is fresh each time, so that a session can be played again on the same server.
    const suffix = randomBytes(4).toString("hex")
    for (const name of ["alice", "bob", "carol", "dave"]) {
      this.variables.set(name, `${session.peers?.[name] ?? `${name}-`}${suffix}`).set(`${name}.store`, hex(randomBytes(16)))
    }
    for (const name of ["s1", "s2"]) this.variables.set(name, randomBytes(8).toString("hex"))
    for (const name of session.documents ?? []) {
      const id = uuid()
      this.variables.set(name, protocol === "classic" ? toBase58Check(id) : hex(id)).set(`${name}.bytes`, hex(id))
    }
    for (const name of session.long_documents ?? []) this.variables.set(name, toBase58Check(randomBytes(32)))
    for (const name of session.spaces ?? []) this.variables.set(name, hex(randomBytes(16)))
  }

  /** The client of a name; made by its class where there is none. */
  client(name, Kind) {
    if (!this.clients.has(name)) {
      if (!Kind) throw new Error(`${name} is not connected`)
      this.clients.set(name, new Kind(name, this))
    }
    return this.clients.get(name)
  }

  /** Closes a client's connection, so that the name may connect again. */
  forget(name) {
    this.client(name).socket.close()
    this.clients.delete(name)
  }

  /** A change of the material, or the bytes given in hex. */
  chunk(name) {
    return (MATERIAL.changes[name] ?? MATERIAL.bad[name])?.hex ?? name
  }

  chunks(names) {
    return names.map(name => this.chunk(name))
  }

  hashes(names) {
    return names.map(name => MATERIAL.changes[name].hash)
  }
}

const uuid = () => {
  const bytes = randomBytes(16)
  bytes[6] = (bytes[6] & 0x0f) | 0x40
  bytes[8] = (bytes[8] & 0x3f) | 0x80
  return bytes
}

/**
 * Plays a session; at the step `options.hasty` with little patience. Returns null if all went as it says, or `{ step, why }` of the first step that did not,
 * counted from 1.
 */
export async function play(session, protocol, options) {
  const world = new World(session, protocol, options)
  try {
    for (const [index, step] of session.steps.entries()) {
      world.patience = options.hasty === index + 1 ? HASTY_MS : options.patience
      const run = STEPS[protocol][step.do]
      if (!run) throw new Error(`${session.name}: step ${index + 1} does "${step.do}", which there is not`)
      try {
        await run(world, fill(step, world.variables))
      } catch (error) {
        if (error instanceof Failure) return { step: index + 1, does: step.do, why: error.message }
        throw new Error(`${session.name}, step ${index + 1}: ${error.message}`, { cause: error })
      }
    }
    for (const client of world.clients.values()) {
      if (client.broken) return { step: session.steps.length, does: "end", why: `the server told ${client.name} what it never may: ${client.broken}` }
    }
    return null
  } finally {
    for (const client of world.clients.values()) client.socket?.cut()
  }
}
