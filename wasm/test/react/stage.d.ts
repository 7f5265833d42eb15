/** What the tests of React share: a repo over a model of the engine, and components that say what they saw. */
import { type RenderResult } from "@testing-library/react";
import { Component, type ReactElement, type ReactNode } from "react";
import { Repo } from "../../ts/index.js";
import { FakeEngine } from "../page/fake.js";
export interface Stage {
    engine: FakeEngine;
    repo: Repo;
    /** Renders inside of a provider. */
    show(element: ReactElement, strict?: boolean): RenderResult & {
        again(element: ReactElement): void;
    };
    /** How often the engine was asked. */
    count(method: string): number;
}
export declare function stage(): Promise<Stage>;
/** Makes a document as if it had been here before: nobody has it open. */
export declare function made(repo: Repo, value: object, space?: string): Promise<string>;
/** Lets everything happen that can. */
export declare const settle: () => Promise<void>;
/** Lets the engine, or the page, do something and its consequences happen. */
export declare const meanwhile: (happens: () => unknown) => Promise<void>;
/** Shows the code of what was thrown below it. */
export declare class Boundary extends Component<{
    children: ReactNode;
}, {
    error?: {
        code?: string;
        message: string;
    };
}> {
    state: {
        error?: {
            code?: string;
            message: string;
        };
    };
    static getDerivedStateFromError(error: {
        code?: string;
        message: string;
    }): object;
    render(): ReactNode;
}
