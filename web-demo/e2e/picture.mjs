/** The README's picture: two windows apart, and together again. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { SHOTS } from "./harness.mjs";

/** A window as it is now, to be put into the picture. */
export async function portrait(page) {
  await page.setViewportSize({ width: 1040, height: 640 });
  await page.bringToFront();
  // What fades in the background has stood still meanwhile.
  await page.waitForTimeout(300);
  const picture = await page.screenshot();
  await page.setViewportSize({ width: 1280, height: 800 });
  return `data:image/png;base64,${picture.toString("base64")}`;
}

/** Lays four windows out: above apart, below together. */
export async function compose(browser, rows) {
  const page = await browser.newPage({ viewport: { width: 1360, height: 400 } });
  const figure = ([title, left, right]) => `<h2>${title}</h2><div><img src="${left}" width="656"><img src="${right}" width="656"></div>`;
  await page.setContent(`<!doctype html><style>
    body { margin: 0; padding: 12px 16px 16px; background: #e9eaee; font: 15px system-ui, sans-serif; color: #3b3f46 }
    h2 { margin: 12px 0 8px; font-size: 15px; font-weight: 600 }
    div { display: flex; gap: 16px }
    img { border-radius: 8px; box-shadow: 0 1px 6px rgb(0 0 0 / 18%) }
  </style>${rows.map(figure).join("")}`);
  await page.waitForFunction(() => [...document.images].every((image) => image.complete));
  await mkdir(SHOTS, { recursive: true });
  await page.screenshot({ path: join(SHOTS, "readme.png"), fullPage: true });
  await page.close();
}
