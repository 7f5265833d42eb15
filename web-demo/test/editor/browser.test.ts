// @vitest-environment node
/** What only a real browser can show: keys, compositions, the clipboard, scrolling and layout. Skipped where there is no Chromium. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Browser, chromium, type Page } from "playwright-core";
import { build, type Plugin } from "vite";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import type { Driver } from "./browser/main.js";

const CHROMIUM = process.env["CHROMIUM"] ?? "/usr/bin/chromium";
const TYPES: Record<string, string> = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css" };

declare global {
  interface Window {
    driver: Driver;
  }
}

/** The page has engines of its own: that of the package need not be there. */
const noEngine: Plugin = {
  name: "no-engine",
  resolveId: (id) => (id === "rejoin:glue" ? `\0${id}` : undefined),
  load: (id) => (id === "\0rejoin:glue" ? "export const makeGlue = undefined;" : undefined),
};

describe.skipIf(!existsSync(CHROMIUM))("in Chromium", () => {
  let out: string;
  let server: Server;
  let browser: Browser;
  let page: Page;
  let faults: string[];

  beforeAll(async () => {
    out = mkdtempSync(join(tmpdir(), "editor-"));
    await build({
      configFile: false,
      logLevel: "error",
      plugins: [noEngine],
      worker: { format: "es", plugins: () => [noEngine] },
      root: fileURLToPath(new URL("./browser", import.meta.url)),
      build: { outDir: out, emptyOutDir: true, target: "esnext", minify: false },
      resolve: { alias: [{ find: /^rejoin$/, replacement: fileURLToPath(new URL("../../../wasm/ts/index.ts", import.meta.url)) }] },
    });
    server = createServer((request, response) => {
      const path = new URL(request.url ?? "/", "http://localhost").pathname;
      const file = join(out, path === "/" ? "index.html" : path);
      if (!existsSync(file)) return void response.writeHead(404).end();
      response.writeHead(200, { "content-type": TYPES[extname(file)] ?? "application/octet-stream" }).end(readFileSync(file));
    });
    await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
    browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox"] });
  });

  afterAll(async () => {
    await browser?.close();
    server?.close();
    if (out) rmSync(out, { recursive: true });
  });

  beforeEach(() => void (faults = []));

  afterEach(async () => {
    await page.close();
    expect(faults).toEqual([]);
  });

  async function visit(query = ""): Promise<void> {
    page = await browser.newPage({ viewport: { width: 900, height: 500 } });
    page.on("pageerror", (error) => faults.push(String(error)));
    page.on("console", (message) => void (["error", "warning"].includes(message.type()) && faults.push(message.text())));
    await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/${query}`);
    await page.waitForFunction(() => window.driver && document.querySelectorAll(".cm-editor").length === 2);
  }

  const shown = (id: string): Promise<string> => page.evaluate((id) => window.driver.view(id).state.doc.toString(), id);
  const both = (expected: string): Promise<void> => vi.waitFor(async () => expect([await shown("a"), await shown("b")]).toEqual([expected, expected]), { timeout: 10_000 });

  async function goTo(id: string, key: "Control+Home" | "Control+End"): Promise<void> {
    await page.click(`#${id} .cm-content`);
    await page.keyboard.press(key);
  }

  it("keys write and undo, offline and back", async () => {
    await visit();
    await goTo("a", "Control+End");
    await page.keyboard.type("!");
    await both("Line 0 of a note\nLine 1 of a note!");
    await page.evaluate(() => window.driver.offline(true));
    await goTo("b", "Control+Home");
    await page.keyboard.type("Bob: ");
    await goTo("a", "Control+Home");
    await page.keyboard.type("Ada: ");
    await page.evaluate(() => window.driver.offline(false));
    await vi.waitFor(async () => expect((await shown("a")).slice(0, 10)).toMatch(/^(Ada: Bob: |Bob: Ada: )$/));
    for (let n = 0; n < 3; n++) await page.keyboard.press("Control+z");
    await both("Bob: Line 0 of a note\nLine 1 of a note");
    await page.keyboard.press("Control+Shift+z");
    await vi.waitFor(async () => expect(await shown("b")).toMatch(/note!$/));
  });

  it("a composition goes on while others write in its line", async () => {
    await visit();
    await goTo("b", "Control+End");
    const keys = await page.context().newCDPSession(page);
    const compose = (text: string): Promise<unknown> => keys.send("Input.imeSetComposition", { text, selectionStart: text.length, selectionEnd: text.length });
    await compose("に");
    await compose("にほ");
    await page.evaluate(() => window.driver.splice("Line 0 of a note\n".length, 4, "Row"));
    await page.evaluate(() => window.driver.splice(0, 4, "Row"));
    // Other lines come in at once, the line of the composition when it ends.
    await vi.waitFor(async () => expect(await shown("b")).toBe("Row 0 of a note\nLine 1 of a noteにほ"));
    expect(await page.evaluate(() => window.driver.view("b").composing)).toBe(true);
    await compose("日本");
    await vi.waitFor(async () => expect(await shown("a")).toBe("Row 0 of a note\nRow 1 of a note日本"));
    await keys.send("Input.insertText", { text: "日本" });
    await both("Row 0 of a note\nRow 1 of a note日本");
    await page.keyboard.press("Control+z");
    await both("Row 0 of a note\nRow 1 of a note");
  });

  it("emojis stay whole, and pasted line breaks are one character", async () => {
    await visit();
    await goTo("b", "Control+End");
    await page.keyboard.insertText("😀");
    await page.keyboard.press("Backspace");
    await page.keyboard.insertText("😁");
    await page.evaluate(() => {
      const clipboardData = new DataTransfer();
      clipboardData.setData("text/plain", "x\r\ny");
      window.driver.view("b").contentDOM.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
    });
    await both("Line 0 of a note\nLine 1 of a note😁x\ny");
  });

  it("what is looked at stays in its place while others write above", async () => {
    await visit("?lines=400");
    await page.evaluate(() => document.body.classList.add("low"));
    const top = (): Promise<number> => page.evaluate(() => window.driver.view("b").coordsAtPos(window.driver.view("b").state.selection.main.head)?.top ?? -1);
    await page.evaluate(() => {
      const view = window.driver.view("b");
      view.focus();
      view.dispatch({ selection: { anchor: view.state.doc.line(200).from }, scrollIntoView: true });
    });
    await page.waitForTimeout(300);
    const before = await top();
    await page.evaluate(() => window.driver.splice(0, 0, "new\n".repeat(10)));
    await vi.waitFor(async () => expect((await shown("b")).startsWith("new")).toBe(true));
    await page.waitForTimeout(300);
    expect(Math.abs((await top()) - before)).toBeLessThan(2);
  });

  it("carets and names are drawn and nothing moves for them", async () => {
    await visit();
    await goTo("a", "Control+Home");
    await page.waitForTimeout(600);
    const box = await page.locator("#b .cm-editor").boundingBox();
    await page.evaluate(() => window.driver.view("a").dispatch({ selection: { anchor: 0, head: 6 } }));
    await page.waitForSelector("#b .cm-remote-selection");
    const name = page.locator("#b .cm-remote-name");
    expect(await name.textContent()).toBe("Ada Lovelace");
    expect(await page.locator("#b .cm-remote-caret").evaluate((caret) => getComputedStyle(caret).backgroundColor)).toBe("rgb(124, 58, 237)");
    expect(await page.locator("#b [role=status]").textContent()).toBe("Ada Lovelace is here too");
    expect(await page.locator("#b .cm-editor").boundingBox()).toEqual(box);
    expect(await page.evaluate(() => window.driver.shift())).toBe(0);
    expect(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth)).toBe(true);
    await vi.waitFor(async () => expect(await name.evaluate((label) => getComputedStyle(label).opacity)).toBe("0"), { timeout: 10_000 });
  });
});
