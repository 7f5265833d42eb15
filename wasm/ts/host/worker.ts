/** The entry of the worker that every page starts. */
import { makeGlue } from "rejoin:glue";
import { browserAround } from "./around.js";
import { Tab } from "./leader.js";
import type { ToWorker } from "./messages.js";

let tab: Tab | undefined;

self.onmessage = ({ data }: MessageEvent<ToWorker>) => {
  if (data.t !== "start") tab?.handle(data);
  else tab ??= new Tab(data, (message) => postMessage(message), browserAround(makeGlue, () => new URL("./rejoin.wasm", import.meta.url)));
};
