/**
 * An engine of a hundred lines, in memory, and links to it whose messages the test can hold back: enough to see what the page does with what it
 * is told. It merges nothing: an edit is made to fit the state it meets.
 */
import type { EngineEvent, Link, Tagged, WireOp, WireStatus } from "../../ts/page/link.js";
import { type Value } from "../../ts/page/values.js";
interface Version {
    hash: string;
    value: Value;
    message: string | null;
    time: number;
    deps: string[];
}
interface Mark {
    path: string;
    start: number;
    end: number;
    name: string;
    value: Tagged;
}
declare class FakeDoc {
    value: Value;
    versions: Version[];
    marks: Mark[];
    space: string | null;
    /** Session to the number of the last patch told. */
    watchers: Map<string, number>;
    /** Session to its greatest edit. */
    upTo: Map<string, number>;
    get heads(): string[];
}
export declare class FakeEngine {
    #private;
    docs: Map<string, FakeDoc>;
    deleted: Set<string>;
    follows: Map<string, string>;
    links: Set<FakeLink>;
    presences: Map<string, {
        author: string;
        key: string;
        value: Tagged;
        own: boolean;
        since: number;
    }[]>;
    status: WireStatus;
    rejections: {
        doc: string;
        change: string;
        code: string;
        text: string;
    }[];
    calls: [method: string, ...args: unknown[]][];
    /** The next edits fail with these codes. */
    failures: string[];
    answer(link: FakeLink, id: number, method: string, args: unknown[], bytes?: Uint8Array): {
        value?: unknown;
        error?: unknown;
    };
    /** Another engine takes over: same store, and it knows of no watches. */
    restart(): void;
    /** Somebody else edits. */
    remote(id: string, ...ops: WireOp[]): void;
    tell(event: EngineEvent): void;
}
/** A link whose messages arrive in order: at once, or when the test lets them. */
export declare class FakeLink implements Link {
    #private;
    readonly session: string;
    readonly held: boolean;
    closed: boolean;
    /** `held`: nothing moves but by {@link up} and {@link down}. */
    constructor(engine: FakeEngine, held?: boolean);
    request(method: string, args: unknown[], bytes?: Uint8Array): {
        id: number;
        result: Promise<unknown>;
    };
    onEvent(handler: (event: EngineEvent) => void): void;
    close(): Promise<void>;
    /** One request reaches the engine. */
    up(): boolean;
    /** One message reaches the page. */
    down(): boolean;
    tell(event: EngineEvent): void;
    restart(): void;
}
/** Lets every promise that can settle do so. */
export declare const turn: () => Promise<void>;
export {};
