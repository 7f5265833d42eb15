import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./app.tsx";
import { openRepo } from "./doc.ts";
import { offline, opened, storeName, theme } from "./me.ts";
import { relayUrl } from "./relay.ts";
import "./style/base.css";
import "./style/page.css";
import "./style/board.css";
import "./style/card.css";
import "./style/narrow.css";

const repo = openRepo(storeName, relayUrl(), offline.value, opened);
// The switch counts for the whole device, so every tab passes it on: whichever runs the engine must know.
offline.subscribe(() => void repo.then((open) => open.setOffline(offline.value)).catch(() => {}));

// The end-to-end tests ask for the library, to write past the page's own controls.
if (new URLSearchParams(location.search).has("e2e")) Object.assign(globalThis, { rejoinDemo: { repo } });

const applyTheme = (): void => {
  if (theme.value) document.documentElement.dataset["theme"] = theme.value;
  else delete document.documentElement.dataset["theme"];
};
applyTheme();
theme.subscribe(applyTheme);

createRoot(document.getElementById("root") as HTMLElement).render(
  <StrictMode>
    <App repo={repo} />
  </StrictMode>,
);

// In development the page's files change under the worker's hands.
if (import.meta.env.PROD && "serviceWorker" in navigator) {
  addEventListener("load", () => void navigator.serviceWorker.register("/sw.js").catch(() => {}));
}
