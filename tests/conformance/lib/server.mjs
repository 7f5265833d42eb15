// The server under test: one that runs already, or a command that is started, and started again when it died of a session.
import { spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"

const START_MS = 60_000

export class Server {
  /**
   * `command` is run by a shell-less split at spaces; `{dir}` in it stands for a fresh folder. It must print the port it listens on:
   * the first line of its output with `:PORT` or `"port":PORT` or nothing but the port says it.
   */
  constructor(command) {
    this.folder = mkdtempSync(join(tmpdir(), "conformance-"))
    this.words = command.split(" ").filter(Boolean).map(word => word.replaceAll("{dir}", this.folder))
    this.deaths = 0
  }

  async start() {
    const [program, ...args] = this.words
    this.child = spawn(program, args, { stdio: ["pipe", "pipe", "ignore"] })
    this.child.stdin.on("error", () => {})
    this.isDead = false
    const died = new Promise((_, reject) => {
      this.child.on("error", reject)
      this.child.on("exit", code => {
        this.isDead = true
        reject(new Error(`the server ended with ${code} before it said where it listens`))
      })
    })
    died.catch(() => {})
    const lines = createInterface({ input: this.child.stdout })
    const port = new Promise(resolve => lines.on("line", line => {
      const found = /:(\d{2,5})\b|"port":\s*(\d+)|^(\d+)$/.exec(line.trim())
      if (found) resolve(found[1] ?? found[2] ?? found[3])
    }))
    const late = new Promise((_, reject) => setTimeout(() => reject(new Error("the server does not say where it listens")), START_MS).unref())
    this.url = `ws://127.0.0.1:${await Promise.race([port, died, late])}/`
  }

  /** Starts it again if it is gone. What killed it may have done so a moment ago. */
  async ready({ afterFailure }) {
    if (afterFailure) await new Promise(resolve => setTimeout(resolve, 200))
    if (!this.isDead) return
    this.deaths += 1
    await this.start()
  }

  stop() {
    this.child?.kill("SIGKILL")
    rmSync(this.folder, { recursive: true, force: true })
  }
}
