// What the tests do with the repo of a page. The rest of the page is the example, or `bare.mjs`.
import { repo } from "the-example"

const settled = progress => (progress.peek ? progress.peek() : progress)

window.page = {
  peers: () => repo.peers.length,
  create: value => repo.create(value).url,
  async find(url) {
    const progress = repo.findWithProgress(url)
    while (!progress.handle?.isReady()) await new Promise(resolve => setTimeout(resolve, 20))
  },
  async findState(url) {
    const progress = repo.findWithProgress(url)
    for (;;) {
      const { state } = settled(progress)
      if (["ready", "unavailable", "failed"].includes(state)) return state
      await new Promise(resolve => setTimeout(resolve, 20))
    }
  },
  async set(url, key, value) {
    const handle = await repo.find(url)
    handle.change(document => {
      document[key] = value
    })
  },
  get: async url => (await repo.find(url)).doc(),
}
