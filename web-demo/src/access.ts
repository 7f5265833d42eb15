/** What may be done in the workspace that is shown, as the page knows it. Whatever gets past it, the relay refuses. */
import { useSpaceRights, useSyncStatus } from "rejoin/react";
import { createContext, useContext, useEffect, useState } from "react";
import type { Route } from "./route.ts";

/** `gone`: the relay does not let this page in, or not any more. What is on this device can still be read. */
export type Access = "write" | "read" | "gone";

export const AccessContext = createContext<Access>("write");

/** Whether controls that write are to be shown. */
export const useMayWrite = (): boolean => useContext(AccessContext) === "write";

/** Finds what may be done: what the link says and what the relay says, whichever is less. */
export function useAccess({ space, token }: Route): Access {
  const rights = useSpaceRights(space);
  const isRefused = useRefused();
  if (rights === "denied" || isRefused) return "gone";
  return token !== null || rights === "read" ? "read" : "write";
}

/** Whether the relay took the token the last time it was asked. While it is being asked again, the last answer stands. */
function useRefused(): boolean {
  const answer = useSyncStatus(({ state, error }) => (error?.code === "unauthorized" ? "no" : state === "syncing" || state === "synced" ? "yes" : "none"));
  const [isRefused, setRefused] = useState(false);
  useEffect(() => {
    if (answer !== "none") setRefused(answer === "no");
  }, [answer]);
  return isRefused;
}
