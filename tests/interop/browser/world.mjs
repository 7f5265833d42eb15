// A closed relay, an application's server with two origins, and windows in which its users are logged in.
import { spawn } from "node:child_process"
import { generateKeyPairSync } from "node:crypto"
import { existsSync } from "node:fs"
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises"
import { createServer } from "node:http"
import { createServer as createListener } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { build } from "esbuild"
import { chromium } from "playwright-core"
import { sign } from "../token.mjs"

const here = path => fileURLToPath(new URL(path, import.meta.url))
const RELAY = process.env.RELAY ?? here("../../../target/debug/rejoin-relay")
const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
/** How long anything may take to show. A loaded machine is slow; what hangs should still end. */
const PATIENCE_MS = Number(process.env.PATIENCE_MS ?? 60_000)

/** What the application's server says of whoever is logged in. Rita's token says nothing: what she may is stored on the relay. */
const GRANTS = { ada: [{ space: "default", access: "write" }], ben: [{ space: "default", access: "write" }] }

/** Waits until a question is answered with yes. */
export async function until(what, ask) {
  const end = Date.now() + PATIENCE_MS
  while (!(await ask())) {
    if (Date.now() > end) throw new Error(`waited in vain until ${what}`)
    await new Promise(resolve => setTimeout(resolve, 50))
  }
}

/** Waits for something that has to come within a time. */
export function within(ms, promise) {
  let limit
  const late = new Promise((_, reject) => (limit = setTimeout(() => reject(new Error(`took longer than ${ms} ms`)), ms)))
  return Promise.race([promise, late]).finally(() => clearTimeout(limit))
}

async function freePort() {
  const listener = createListener()
  await new Promise(resolve => listener.listen(0, "127.0.0.1", resolve))
  const { port } = listener.address()
  await new Promise(resolve => listener.close(resolve))
  return port
}

/** The example of the documentation: the block of code that makes a Repo. */
async function exampleOf(path) {
  const blocks = [...(await readFile(path, "utf8")).matchAll(/^```js\n(.*?)^```$/gms)].map(([, code]) => code)
  const found = blocks.filter(code => code.includes("new Repo("))
  if (found.length !== 1) throw new Error(`${path} has ${found.length} examples with a Repo`)
  return found[0]
}

/** Bundles a page that gets its repo from `code`, which speaks to the relay of the documentation. */
async function bundle(code, relay) {
  const contents = code.replaceAll("https://relay.example.org", relay).replaceAll("wss://relay.example.org", relay.replace("http", "ws"))
  const example = {
    name: "example",
    setup(builder) {
      builder.onResolve({ filter: /^the-example$/ }, () => ({ path: "the-example", namespace: "example" }))
      builder.onLoad({ filter: /./, namespace: "example" }, () => ({ contents, resolveDir: here(".") }))
    },
  }
  const made = await build({
    entryPoints: [here("./page.mjs")],
    bundle: true,
    write: false,
    format: "esm",
    platform: "browser",
    target: "es2022",
    logLevel: "error",
    // The package's other build for browsers imports its WASM as a module, which esbuild does not know; this one has it inside.
    conditions: ["webpack"],
    plugins: [example],
  })
  return made.outputFiles[0].text
}

export class World {
  complaints = []
  /** How long the tokens last that the application's server gives out, if not ten minutes. */
  tokenSeconds
  #key
  #folder
  #process
  #servers = []
  #browser
  #scripts = new Map()

  static async start() {
    if (!existsSync(RELAY)) throw new Error(`there is no ${RELAY}: cargo build -p rejoin-relay`)
    const world = new World()
    const { publicKey, privateKey } = generateKeyPairSync("ed25519")
    world.#key = privateKey
    world.#folder = await mkdtemp(join(tmpdir(), "rejoin-stock-"))
    const [port, adminPort] = [await freePort(), await freePort()]
    world.relay = `http://127.0.0.1:${port}`
    world.adminUrl = `http://127.0.0.1:${adminPort}`
    world.home = await world.#serve()
    world.elsewhere = await world.#serve()
    await writeFile(join(world.#folder, "key.pem"), publicKey.export({ type: "spki", format: "pem" }))
    const config = `data = "${world.#folder}/data"
listen = "127.0.0.1:${port}"
origins = ["${world.home}"]
[auth]
keys = [{ alg = "EdDSA", file = "${world.#folder}/key.pem" }]
leeway_seconds = 0
[admin]
listen = "127.0.0.1:${adminPort}"
`
    await writeFile(join(world.#folder, "relay.toml"), config)
    world.#scripts.set("/example.js", await bundle(await exampleOf(here("../../../relay/docs/auth.md")), world.relay))
    world.#scripts.set("/bare.js", await bundle(await readFile(here("./bare.mjs"), "utf8"), world.relay))
    await world.startRelay()
    world.#browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: FLAGS })
    return world
  }

  async startRelay() {
    const child = spawn(RELAY, ["serve", "--config", join(this.#folder, "relay.toml")], { stdio: ["ignore", "pipe", "pipe"] })
    this.#process = child
    process.once("exit", () => child.kill("SIGKILL"))
    let said = ""
    child.stderr.on("data", chunk => (said += chunk))
    await new Promise((resolve, reject) => {
      child.once("error", reject)
      child.once("exit", code => reject(new Error(`the relay ended with ${code}: ${said}`)))
      // Its first line says that it listens.
      child.stdout.once("data", resolve)
    })
  }

  /** As a power cut would: nothing is said to anybody. */
  async stopRelay() {
    const ended = new Promise(resolve => this.#process.once("exit", resolve))
    this.#process.kill("SIGKILL")
    await ended
  }

  /** The application's server, which knows by a cookie who is logged in. */
  async #serve() {
    const server = createServer((request, response) => {
      const { pathname, searchParams } = new URL(request.url, "http://localhost")
      const script = this.#scripts.get(pathname)
      if (script) return response.writeHead(200, { "content-type": "text/javascript" }).end(script)
      if (pathname === "/relay-token") {
        const sub = /me=(\w+)/.exec(request.headers.cookie ?? "")?.[1]
        if (!sub) return response.writeHead(403).end()
        const rejoin = GRANTS[sub] && { grants: GRANTS[sub] }
        const exp = this.tokenSeconds && Math.floor(Date.now() / 1_000) + this.tokenSeconds
        return response.end(sign(this.#key, { sub, ...(rejoin && { rejoin }), ...(exp && { exp }) }))
      }
      if (pathname !== "/") return response.writeHead(404).end()
      const src = searchParams.get("script")
      response.writeHead(200, { "content-type": "text/html" })
      response.end(`<!doctype html><title>stock</title><link rel="icon" href="data:," /><script type="module" src="${src}"></script>`)
    })
    await new Promise(resolve => server.listen(0, "127.0.0.1", resolve))
    this.#servers.push(server)
    return `http://127.0.0.1:${server.address().port}`
  }

  /** Opens a window in which somebody, or nobody, is logged in. */
  async page(me, { at = this.home, script = "/example.js", ticket = "" } = {}) {
    const context = await this.#browser.newContext()
    context.setDefaultTimeout(PATIENCE_MS)
    if (me) await context.addCookies([{ name: "me", value: me, url: at }])
    const page = await context.newPage()
    const stock = new Stock(page, this.relay)
    page.on("console", message => {
      if (message.type() !== "error") return
      this.complaints.push(`${me}: ${message.text()}`)
      if (/WebSocket connection to .* failed|responded with a status of 401/.test(message.text())) stock.refused.push(message.text())
    })
    page.on("pageerror", error => this.complaints.push(`${me}: ${error.stack ?? error}`))
    await page.goto(`${at}/?script=${script}&ticket=${encodeURIComponent(ticket)}`)
    await page.waitForFunction(() => "page" in window)
    if (script === "/example.js") await until("the relay has greeted", async () => (await stock.peers()) === 1)
    return stock
  }

  /** Asks the relay's admin API. */
  async admin(method, path, body) {
    const token = (await readFile(join(this.#folder, "data/admin-token"), "utf8")).trim()
    const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" }
    const answer = await fetch(this.adminUrl + path, { method, headers, body: JSON.stringify(body) })
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`)
  }

  async end() {
    await this.#browser?.close()
    await this.stopRelay()
    for (const server of this.#servers) server.close()
    await rm(this.#folder, { recursive: true, force: true })
  }
}

/** A window with an unchanged automerge-repo in it. */
class Stock {
  /** What Chromium said of connections that it did not get. */
  refused = []
  #page
  #relay

  constructor(page, relay) {
    this.#page = page
    this.#relay = relay
  }

  #do(what, ...args) {
    return this.#page.evaluate(([what, args]) => window.page[what](...args), [what, args])
  }

  peers = () => this.#do("peers")
  create = value => this.#do("create", value)
  find = url => this.#do("find", url)
  findState = url => this.#do("findState", url)
  set = (url, key, value) => this.#do("set", url, key, value)

  /** Waits until the document is this. */
  async shows(url, value) {
    const sorted = object => JSON.stringify(Object.entries(object).sort())
    let found
    await until(`it shows ${JSON.stringify(value)}`, async () => {
      found = await this.#do("get", url)
      return sorted(found) === sorted(value)
    }).catch(error => {
      throw new Error(`${error.message}, not ${JSON.stringify(found)}`)
    })
  }

  /** Asks for a ticket from the page: the status of the answer, or the error that the browser gives instead of it. */
  askTicket = () => this.#fetch(({ status }) => status)
  ticket = () => this.#fetch(async answer => (await answer.json()).ticket)

  #fetch(read) {
    return this.#page.evaluate(
      async ([relay, read]) => {
        const token = await (await fetch("/relay-token")).text()
        try {
          const answer = await fetch(`${relay}/ticket`, { method: "POST", headers: { authorization: `Bearer ${token}` } })
          return await (0, eval)(`(${read})`)(answer)
        } catch (error) {
          return error.name
        }
      },
      [this.#relay, String(read)],
    )
  }
}
