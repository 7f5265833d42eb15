/** What the tests of React share: a repo over a model of the engine, and components that say what they saw. */
import { act, render, type RenderResult } from "@testing-library/react";
import { Component, type ReactElement, type ReactNode, StrictMode } from "react";
import { Repo } from "../../ts/index.js";
import { RepoProvider } from "../../ts/react/index.js";
import { FakeEngine, FakeLink, turn } from "../page/fake.js";

export interface Stage {
  engine: FakeEngine;
  repo: Repo;
  /** Renders inside of a provider. */
  show(element: ReactElement, strict?: boolean): RenderResult & { again(element: ReactElement): void };
  /** How often the engine was asked. */
  count(method: string): number;
}

export async function stage(): Promise<Stage> {
  const engine = new FakeEngine();
  const repo = await Repo.open({ name: "test", link: new FakeLink(engine) });
  const wrap = (element: ReactElement, strict: boolean): ReactElement => {
    const inside = <RepoProvider repo={repo}>{element}</RepoProvider>;
    return strict ? <StrictMode>{inside}</StrictMode> : inside;
  };
  return {
    engine,
    repo,
    show(element, strict = false) {
      const shown = render(wrap(element, strict));
      return { ...shown, again: (next) => shown.rerender(wrap(next, strict)) };
    },
    count: (method) => engine.calls.filter(([name]) => name === method).length,
  };
}

/** Makes a document as if it had been here before: nobody has it open. */
export async function made(repo: Repo, value: object, space?: string): Promise<string> {
  const doc = await repo.create(value, space === undefined ? {} : { space });
  doc.close();
  await turn();
  return doc.id;
}

/** Lets everything happen that can. */
export const settle = (): Promise<void> =>
  act(async () => {
    await turn();
    await turn();
    await turn();
  });

/** Lets the engine, or the page, do something and its consequences happen. */
export const meanwhile = (happens: () => unknown): Promise<void> =>
  act(async () => {
    await happens();
    await turn();
    await turn();
  });

/** Shows the code of what was thrown below it. */
export class Boundary extends Component<{ children: ReactNode }, { error?: { code?: string; message: string } }> {
  override state: { error?: { code?: string; message: string } } = {};
  static getDerivedStateFromError(error: { code?: string; message: string }): object {
    return { error };
  }
  override render(): ReactNode {
    return this.state.error ? `error: ${this.state.error.code ?? this.state.error.message}` : this.props.children;
  }
}
