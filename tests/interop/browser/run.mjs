// The real automerge-repo in pages of real Chromium, at a relay that lets in who has a token: with the example of
// relay/docs/auth.md as it stands there, bundled as an application bundles it.
import assert from "node:assert/strict"
import { until, within, World } from "./world.mjs"

const cases = {
  async "two pages with tickets converge, apart and together"(world) {
    const ada = await world.page("ada")
    const ben = await world.page("ben")
    const url = await ada.create({ title: "paper" })
    await ben.find(url)
    await ada.set(url, "ada", 1)
    await ben.set(url, "ben", 2)
    for (const page of [ada, ben]) await page.shows(url, { title: "paper", ada: 1, ben: 2 })
    await world.stopRelay()
    await ada.set(url, "ada", 3)
    await ben.set(url, "ben", 4)
    await world.startRelay()
    for (const page of [ada, ben]) await page.shows(url, { title: "paper", ada: 3, ben: 4 })
  },

  async "what a page writes that may only read stays in it"(world) {
    const ada = await world.page("ada")
    const url = await ada.create({ n: 0 })
    await world.admin("PUT", "/v1/grants", { principal: "rita", target: `document/${url.slice("automerge:".length)}`, access: "read" })
    const rita = await world.page("rita")
    await rita.find(url)
    await rita.set(url, "rita", true)
    await ada.set(url, "n", 1)
    await rita.shows(url, { n: 1, rita: true })
    const ben = await world.page("ben")
    await ben.find(url)
    await ben.shows(url, { n: 1 })
    await ada.shows(url, { n: 1 })
  },

  async "without a ticket there is nobody to talk to, whatever the URL"(world) {
    const ada = await world.page("ada")
    const url = await ada.create({ n: 0 })
    const strange = await world.page(undefined, { script: "/bare.js" })
    await until("the relay refuses it", () => strange.refused.length > 0)
    assert.equal(await strange.peers(), 0)
    assert.equal(await strange.findState(url), "unavailable")
  },

  async "page of an origin that is not allowed gets no ticket, and does not come in with one either"(world) {
    const ada = await world.page("ada")
    assert.equal(await ada.askTicket(), 200)
    const ticket = await ada.ticket()
    const evil = await world.page("ada", { at: world.elsewhere, script: "/bare.js", ticket })
    assert.equal(await evil.askTicket(), "TypeError", "the browser keeps the answer from it")
    await until("the relay refuses it", () => evil.refused.length > 0)
    assert.equal(await evil.peers(), 0)
    const good = await world.page("ada", { script: "/bare.js", ticket })
    await until("the same ticket is good where it belongs", async () => (await good.peers()) === 1)
  },

  async "a page whose principal is disabled is gone, and comes back when it may"(world) {
    const ada = await world.page("ada")
    const ben = await world.page("ben")
    const url = await ada.create({ n: 0 })
    await ben.find(url)
    await world.admin("POST", "/v1/principals", { id: "ben" })
    await world.admin("PATCH", "/v1/principals/ben", { disabled: true })
    await until("it is closed", async () => (await ben.peers()) === 0)
    await ben.set(url, "ben", "offline")
    await ada.set(url, "n", 1)
    const refused = what => ben.refused.some(text => text.includes(what))
    await until("the adapter has tried again with its ticket", () => refused("WebSocket"))
    await until("the page has asked for another one", () => refused("status of 401"))
    assert.equal(await ben.peers(), 0)
    await ada.shows(url, { n: 1 })
    await ben.shows(url, { n: 0, ben: "offline" })
    await world.admin("PATCH", "/v1/principals/ben", { disabled: false })
    for (const page of [ada, ben]) await page.shows(url, { n: 1, ben: "offline" })
  },

  async "a connection ends with its token, and goes on with a fresh ticket without a change lost"(world) {
    const ada = await world.page("ada")
    world.tokenSeconds = 8
    const ben = await world.page("ben")
    world.tokenSeconds = undefined
    const url = await ada.create({ n: 0 })
    await ben.find(url)
    await until("its token is over", async () => (await ben.peers()) === 0)
    await ben.set(url, "ben", 1)
    for (const page of [ada, ben]) await page.shows(url, { n: 0, ben: 1 })
  },
}

let failed = 0
for (const [title, tell] of Object.entries(cases)) {
  if (process.argv[2] && !title.includes(process.argv[2])) continue
  const began = Date.now()
  const world = await World.start()
  try {
    await within(120_000, tell(world))
    console.log(`ok    ${title} ${Date.now() - began} ms`)
  } catch (error) {
    failed++
    console.log(`FAIL  ${title}\n${error?.stack ?? error}\n${world.complaints.join("\n")}`)
  } finally {
    await world.end()
  }
}
process.exit(failed ? 1 : 0)
