/** The page as a whole: which of its views is shown, and what is shown when nothing works. */
import { type Repo, RejoinError } from "rejoin";
import { RepoProvider } from "rejoin/react";
import { Component, type ReactNode, useEffect, useSyncExternalStore } from "react";
import { opened } from "./me.ts";
import { useNews } from "./news.ts";
import { readHash, tokenIn } from "./route.ts";
import { Blank } from "./ui/blank.tsx";
import { Home } from "./ui/home.tsx";
import { Logo } from "./ui/icons.tsx";
import { Workspace } from "./ui/workspace.tsx";

function useHash(): string {
  return useSyncExternalStore(
    (listener) => {
      addEventListener("hashchange", listener);
      return () => removeEventListener("hashchange", listener);
    },
    () => location.hash,
  );
}

export function App({ repo }: { repo: Promise<Repo> }): ReactNode {
  return (
    <Failing>
      <RepoProvider repo={repo}>
        <View />
      </RepoProvider>
      <NewsLine />
    </Failing>
  );
}

function View(): ReactNode {
  const hash = useHash();
  if (tokenIn(hash) !== opened) return <Elsewhere />;
  const route = readHash(hash);
  if (route === "broken") return <Blank status="failed" />;
  return route ? <Workspace key={route.index} route={route} /> : <Home />;
}

/** What may only be read lives in a store of its own, and a page has one store: it begins anew. */
function Elsewhere(): ReactNode {
  useEffect(() => location.reload(), []);
  return <main aria-busy="true" />;
}

/** What has just happened. The region is always there, since a screen reader hears only what changes in one that it knows. */
function NewsLine(): ReactNode {
  const news = useNews();
  return (
    <div className="news" role="status" aria-live="polite">
      {news && (
        <p key={news.id} data-tone={news.tone}>
          {news.text}
        </p>
      )}
    </div>
  );
}

const HELP: Partial<Record<RejoinError["code"], string>> = {
  store_in_use: "Another program holds this store open.",
  store_newer: "This store was written by a newer version of the page. Reload it to get that version.",
  store_damaged: "This store is damaged. What the relay has can be fetched again into an empty one.",
  store_full: "This device is out of space.",
  not_found: "There is no such document.",
};

class Failing extends Component<{ children: ReactNode }, { error: unknown }> {
  override state = { error: undefined as unknown };

  static getDerivedStateFromError(error: unknown): { error: unknown } {
    return { error };
  }

  override render(): ReactNode {
    const { error } = this.state;
    if (error === undefined) return this.props.children;
    const code = error instanceof RejoinError ? error.code : "internal";
    return (
      <main className="blank" role="alert">
        <Logo />
        <h1>This page cannot go on</h1>
        <p>{HELP[code] ?? "Something went wrong that should not have. What you wrote before is safe on this device."}</p>
        <p className="fine">
          <code>{code}</code> {error instanceof Error ? error.message : String(error)}
        </p>
        <button type="button" className="primary" onClick={() => location.reload()}>
          Reload
        </button>
      </main>
    );
  }
}
