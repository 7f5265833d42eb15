// Starts client.mjs and server.mjs as children and speaks their lines.
import { spawn } from "node:child_process"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"

const here = fileURLToPath(new URL("..", import.meta.url))

export class Child {
  constructor(script, ...args) {
    this.process = spawn(process.execPath, [script, ...args], { cwd: here, stdio: ["pipe", "pipe", "inherit"] })
    this.waiting = []
    createInterface({ input: this.process.stdout }).on("line", line => this.waiting.shift()?.(JSON.parse(line)))
    this.id = 0
  }

  line() {
    return new Promise(resolve => this.waiting.push(resolve))
  }

  async call(op, args = {}) {
    const answer = this.line()
    this.process.stdin.write(JSON.stringify({ id: ++this.id, op, ...args }) + "\n")
    const { ok, error, ...rest } = await answer
    if (!ok) throw new Error(`${op}: ${error}`)
    return rest
  }

  end() {
    this.process.kill("SIGKILL")
  }
}
