/** The page, as somebody sees it who uses it. */
import { until } from "./harness.mjs";

export const switchOf = (page) => page.getByRole("switch", { name: "Work offline" });
export const goOffline = (page) => switchOf(page).click();
export const comeBack = (page) => switchOf(page).click();
export const lamp = (page) => page.locator(".lamp .words").textContent();
export const pending = async (page) => Number(await page.getByTestId("pending").textContent());
export const inSync = (page) => until("the page is in sync", async () => `${await lamp(page)} ${await pending(page)}`, (said) => said === "In sync 0");
export const card = (page, title) => page.locator(".card").filter({ has: page.locator(".title", { hasText: title }) });
export const open = (page, title) => card(page, title).locator(".open").click();
export const detail = (page) => page.locator(".detail");
export const note = (page) => page.locator(".detail .cm-content");
export const noteText = (page) => page.locator(".detail .cm-line").allTextContents().then((lines) => lines.join("\n"));

/** What the list says of each card, in its order. */
export const cards = (page) =>
  page.locator(".card").evaluateAll((rows) =>
    rows.map((row) => ({
      title: row.querySelector(".title").textContent,
      done: row.querySelector(".check").checked,
      votes: Number(row.querySelector(".votes").textContent),
      due: row.querySelector(".due")?.textContent.replace(/^late, /, "") ?? "",
      assignee: row.querySelector(".assignee .avatar")?.getAttribute("aria-label") ?? "",
    })),
  );
export const titles = async (page) => (await cards(page)).map(({ title }) => title);

export async function add(page, title) {
  await page.getByLabel("New card").fill(title);
  await page.getByLabel("New card").press("Enter");
  await card(page, title).waitFor();
}

/** Makes a workspace with one board and some cards, and returns the address others join by. */
export async function create(page, url, name, list) {
  await page.goto(url);
  await page.getByLabel("Name of the new workspace").fill(name);
  await page.getByRole("button", { name: "Create", exact: true }).click();
  await page.getByLabel("New card").waitFor();
  for (const title of list) await add(page, title);
  await page.getByRole("button", { name: "Share", exact: true }).click();
  const link = await page.getByLabel("Link", { exact: true }).inputValue();
  await page.keyboard.press("Escape");
  return link;
}

export async function join(page, link, count) {
  await page.goto(link);
  await until("all cards are there", () => page.locator(".card").count(), (found) => found === count);
}

export async function rename(page, from, to) {
  await open(page, from);
  const title = detail(page).getByLabel("Title", { exact: true });
  await title.fill(to);
  await title.press("Enter");
}

export async function type(page, text, at = "End") {
  await note(page).click();
  await page.keyboard.press(`Control+${at}`);
  await page.keyboard.type(text);
}
