// The driven client against the library's own server: proves the harness before Rejoin is measured with it.
import assert from "node:assert/strict"
import { after, before, test } from "node:test"
import { Child } from "./harness.mjs"

let server, a, b, url

before(async () => {
  server = new Child("server.mjs")
  url = `ws://127.0.0.1:${(await server.line()).port}`
  a = new Child("client.mjs")
  b = new Child("client.mjs")
  await a.call("connect", { url })
  await b.call("connect", { url })
})

after(() => [server, a, b].forEach(child => child.end()))

test("two clients share a document of every type of value", async () => {
  const value = { title: "x", n: { $counter: 1 }, when: { $date: 5 }, raw: { $bytes: "00ff" }, list: [1, { a: 2 }], map: { in: { deep: true } } }
  const { url: doc } = await a.call("create", { value })
  assert.equal((await b.call("find", { url: doc, patient: true })).state, "ready")
  await b.call("change", { url: doc, edits: [{ do: "increment", path: ["n"], by: 4 }, { do: "insert", path: ["list"], index: 0, value: "first" }] })
  const { heads } = await b.call("change", { url: doc, edits: [{ do: "splice", path: ["title"], index: 1, del: 0, text: "yz" }] })
  await a.call("waitHeads", { url: doc, heads })
  const seen = (await a.call("get", { url: doc })).value
  assert.deepEqual(seen, { ...value, title: "xyz", n: 5, list: ["first", 1, { a: 2 }] })
})

test("edits made offline arrive after reconnecting", async () => {
  const { url: doc } = await a.call("create", { value: { a: 0 } })
  assert.equal((await b.call("find", { url: doc, patient: true })).state, "ready")
  await a.call("disconnect")
  await a.call("change", { url: doc, edits: [{ do: "set", path: ["a"], value: 1 }] })
  await b.call("change", { url: doc, edits: [{ do: "set", path: ["b"], value: 2 }] })
  await a.call("connect", { url })
  await a.call("waitHeads", { url: doc, heads: (await a.call("heads", { url: doc })).heads }).catch(() => {})
  const merged = async child => JSON.stringify((await child.call("get", { url: doc })).value, ["a", "b"])
  for (let tries = 0; tries < 200 && (await merged(a)) !== (await merged(b)); tries++) await new Promise(resolve => setTimeout(resolve, 50))
  assert.equal(await merged(a), '{"a":1,"b":2}')
  assert.equal(await merged(b), '{"a":1,"b":2}')
})

test("ephemeral messages arrive, a document nobody has is unavailable", async () => {
  const { url: doc } = await a.call("create", { value: { a: 0 } })
  assert.equal((await b.call("find", { url: doc, patient: true })).state, "ready")
  await a.call("broadcast", { url: doc, message: { cursor: 7 } })
  const { messages } = await b.call("ephemerals", { url: doc, count: 1 })
  assert.deepEqual(messages.map(({ message }) => message), [{ cursor: 7 }])
  assert.equal((await b.call("find", { url: "automerge:4NMNnkMhL8jXrdJ9jamS58PAVdXu" })).state, "unavailable")
})
