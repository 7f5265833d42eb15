/** The stories of a link that may only be read: what it shows, what it keeps from happening, and how it ends. */
import * as page from "./page.mjs";
import { accessible, device, equal, expected, shots, story, until } from "./harness.mjs";

/** Everything by which a page could be written to, where it is not switched off. */
const WRITABLE = "main input:enabled, main textarea, main select, aside input, aside textarea, aside select, [contenteditable=true], .grip, .votes:enabled, h1 input";

/** The same address, where the page gives its library to the test. */
const opened = (link) => link.replace("/#", "/?e2e#");
const notice = (window) => window.locator(".notice");
const gone = (window) => notice(window).getByText("This link no longer works").waitFor();

async function makeLink(window) {
  await window.getByRole("button", { name: "Share", exact: true }).click();
  await window.getByRole("button", { name: "Make a read-only link" }).click();
  const link = await window.getByLabel("Read-only link", { exact: true }).inputValue();
  await window.getByText(/can read here until/).waitFor();
  await shots(window, "share-read-only");
  await accessible(window, "the share dialog with a read-only link");
  await window.keyboard.press("Escape");
  return link;
}

/** Writes a title through the library: as a page would whose controls were tampered with. */
const force = (window, from, to) =>
  window.evaluate(
    async ([before, after]) => {
      const repo = await globalThis.rejoinDemo.repo;
      for (const id of await repo.list()) {
        const doc = await repo.find(id);
        const [card] = Object.entries(doc.value.cards ?? {}).find(([, { title }]) => title === before) ?? [];
        if (card) await doc.set(["cards", card, "title"], after, { message: `Ivy: renamed “${before}” to “${after}”` });
        doc.close();
      }
    },
    [from, to],
  );

export async function readOnlyStories(browser, relay) {
  const [hal, ivy] = [await device(browser, "Hal"), await device(browser, "Ivy")];
  const [a, b] = [await hal.newPage(), await ivy.newPage()];
  let link = "";
  let readLink = "";

  await story("a read-only link shows the board and its notes in a fresh browser profile, live", async () => {
    link = await page.create(a, relay.url, "Open day", ["Paint the gate", "Order the cake", "Tune the piano"]);
    await page.open(a, "Order the cake");
    await page.detail(a).getByLabel("Due").fill("2031-03-14");
    await page.detail(a).getByLabel("Assignee").selectOption({ label: "Hal (you)" });
    await page.detail(a).getByLabel("violet").check();
    await page.type(a, "Two layers, no nuts.");
    await page.card(a, "Order the cake").locator(".votes").click();
    await page.inSync(a);
    readLink = await makeLink(a);
    if (!readLink.includes("#/r/")) throw new Error(`this is no read-only link: ${readLink}`);

    await page.join(b, opened(readLink), 3);
    await page.inSync(b);
    equal(await page.cards(b), await page.cards(a), "what a reader sees");
    await b.locator(".chip", { hasText: "Read only" }).waitFor();
    await page.open(b, "Order the cake");
    await until("the note is there", async () => (await page.noteText(b)) === "Two layers, no nuts.");
    await a.getByRole("img", { name: "Ivy, is here" }).waitFor();
    await page.type(a, " Ask Bo for plates.");
    await page.rename(a, "Tune the piano", "Tune the old piano");
    await page.card(b, "Tune the old piano").waitFor();
    await until("the note grows", async () => (await page.noteText(b)) === "Two layers, no nuts. Ask Bo for plates.");
  });

  await story("a reader has nothing to write by, with the mouse or the keyboard", async () => {
    const before = await page.cards(a);
    equal(await b.locator(WRITABLE).evaluateAll((found) => found.map(({ outerHTML }) => outerHTML.slice(0, 120))), [], "what could be written with");
    for (const name of ["New board", "Add", /^Remove/]) equal(await b.getByRole("button", { name, exact: true }).count(), 0, `the button ${name}`);
    await page.note(b).click();
    await b.keyboard.type("x");
    await b.keyboard.press("Backspace");
    await shots(b, "read-only-card");
    await accessible(b, "a card that can only be read");
    await b.keyboard.press("Escape");
    if (await page.detail(b).count()) await b.getByRole("button", { name: "Close the card" }).click();
    // A card that is closed gives the focus back in the next frame.
    await until("the card's button has the focus", () => b.evaluate(() => document.activeElement?.id.startsWith("open-") ?? false));
    await page.card(b, "Paint the gate").locator(".open").focus();
    await b.keyboard.press("Alt+ArrowDown");
    await b.keyboard.press("n");
    await b.keyboard.press("ArrowDown");
    equal(await b.evaluate(() => document.activeElement?.textContent?.includes("Order the cake")), true, "the focus walks with the arrow keys");
    await shots(b, "read-only");
    await accessible(b, "a board that can only be read");
    await b.getByRole("button", { name: "History" }).click();
    await until("the history is read", async () => Number(await b.getByLabel("Version").getAttribute("max")) > 4);
    await b.getByLabel("Version").fill("2");
    await until("the past is shown", async () => (await page.titles(b)).length === 1);
    equal(await b.getByRole("button", { name: "Restore" }).count(), 0, "the button that restores");
    await b.getByRole("button", { name: "Back to now" }).click();
    equal([await page.cards(a), await page.cards(b), await page.pending(b)], [before, before, 0], "the cards, and what waits");
    await page.open(a, "Order the cake");
    equal(await page.detail(a).getByLabel("Assignee").locator("option").allTextContents(), ["Nobody", "Hal (you)"], "a reader is not written among the people");
    await a.getByRole("button", { name: "Close the card" }).click();
  });

  await story("a write that is forced past the page is refused, tried again, taken out, and seen by nobody else", async () => {
    const before = await page.titles(a);
    await force(b, "Paint the gate", "Painted by force");
    const chip = b.getByRole("button", { name: "1 refused" });
    await chip.waitFor();
    await force(b, "Order the cake", "Cake by force");
    equal((await page.titles(b)).slice(0, 2), ["Painted by force", "Cake by force"], "what the reader's own device shows");
    await chip.click();
    const refused = b.getByRole("dialog", { name: "Refused changes" });
    const first = refused.getByRole("listitem").first();
    await first.getByText("Ivy renamed “Paint the gate” to “Painted by force”").waitFor();
    await first.getByText("You may read here, not write.").waitFor();
    await until("what was written after it waits behind it", async () => (await first.textContent()).includes("and 1 more behind it"));
    await until("nothing else is said to wait", async () => (await b.locator(".waits").textContent()) === "");
    await shots(b, "refused-list");
    await accessible(b, "the list of refused changes");
    await first.getByRole("button", { name: "Try again" }).click();
    await until("it is refused again", async () => (await refused.getByRole("listitem").count()) > 0 && (await page.pending(b)) === 0);
    await first.getByText("You may read here, not write.").waitFor();
    equal(await page.titles(a), before, "what everybody else sees");
    await first.getByRole("button", { name: "Take out" }).click();
    await refused.getByText("Taken out: 2 changes").waitFor();
    await until("the reader's board is as it was", async () => JSON.stringify(await page.titles(b)) === JSON.stringify(before));
    await shots(b, "refused-taken-out");
    await accessible(b, "a change that was taken out");
    const [download] = await Promise.all([b.waitForEvent("download"), refused.getByRole("button", { name: "Save as a file" }).click()]);
    equal(download.suggestedFilename().endsWith(".automerge"), true, "what was taken out can be saved");
    await refused.getByRole("button", { name: "Delete for good" }).click();
    await refused.getByText("There are none").waitFor();
    await b.keyboard.press("Escape");
    equal([await page.titles(a), await page.titles(b)], [before, before], "both, in the end");
  });

  await story("a reader's other workspaces are untouched, and the read-only one is on the list", async () => {
    await b.getByRole("link", { name: "All workspaces" }).click();
    await b.getByRole("heading", { name: "Work apart" }).waitFor();
    await b.getByRole("link", { name: "Open day Read only" }).waitFor();
    await shots(b, "home-read-only");
    await accessible(b, "the first page with a read-only workspace");
    await b.getByRole("link", { name: "Open day Read only" }).click();
    await until("the cards are there", () => b.locator(".card").count(), (found) => found === 3);
  });

  await story("a link that is taken back says so within seconds, and leaves what was read", async () => {
    await page.inSync(b);
    await a.getByRole("button", { name: "Share", exact: true }).click();
    await a.getByRole("button", { name: "Take the link back" }).click();
    const began = Date.now();
    await gone(b);
    console.log(`      said ${Date.now() - began} ms after it was taken back`);
    await a.getByRole("button", { name: "Make a read-only link" }).waitFor();
    await a.keyboard.press("Escape");
    equal((await page.titles(b)).length, 3, "what can still be read");
    await shots(b, "read-only-gone");
    await accessible(b, "a link that was taken back");
    await b.reload();
    await gone(b);
    equal((await page.titles(b)).length, 3, "what can be read after a reload");
  });

  await story("a link that was taken back, that is unknown, or whose time is over says so to who comes first", async () => {
    const lost = await device(browser, "Jo");
    const c = await lost.newPage();
    for (const [what, address] of [
      ["taken back", readLink],
      ["unknown", readLink.replace(/rjs_\w{16}/, "rjs_0123456789abcdef")],
    ]) {
      await c.goto("about:blank");
      await c.goto(address);
      await c.getByRole("heading", { name: "This link does not work" }).waitFor();
      await accessible(c, `a link that is ${what}`);
    }
    await shots(c, "read-only-unknown");
    await c.goto("about:blank");
    await c.goto(readLink.slice(0, -60));
    await c.getByRole("heading", { name: "Not to be opened" }).waitFor();

    const { space } = /#\/r\/(?<space>\w+)\//.exec(readLink).groups;
    const made = await a.request.post(new URL("share", relay.url).href, { data: { space, access: "read", expires_in_seconds: 6 } });
    const { token } = await made.json();
    await c.goto("about:blank");
    await page.join(c, readLink.replace(/rjs_[\w-]+/, token), 3);
    await gone(c);
    equal((await page.titles(c)).length, 3, "what can still be read");
    await lost.close();
  });

  await story("a link that cannot be made says why", async () => {
    await page.goOffline(a);
    await hal.setOffline(true);
    await a.getByRole("button", { name: "Share", exact: true }).click();
    expected.unreachable = true;
    await a.getByRole("button", { name: "Make a read-only link" }).click();
    await a.getByText("The relay cannot be reached, and only the relay can do this").waitFor();
    await shots(a, "share-unreachable");
    await accessible(a, "a link that cannot be made");
  });

  await hal.close();
  await ivy.close();
}
