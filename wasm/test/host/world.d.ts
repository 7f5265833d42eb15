import { Tab, type Channel, type Locks } from "../../ts/host/leader.js";
import { PageLink } from "../../ts/host/link.js";
import { MemoryFile } from "../../ts/host/memory.js";
import type { ChangeName } from "../../ts/host/contract.js";
import type { LinkOptions } from "../../ts/page/link.js";
import type { ToWorker } from "../../ts/host/messages.js";
/** The smallest WASM module there is; the fake engine has no use for it. */
export declare const noWasm: Uint8Array<ArrayBuffer>;
interface Ask {
    owner: object;
    held: () => Promise<void> | void;
    done: (value?: unknown) => void;
    signal: AbortSignal | undefined;
}
/** The disk and the browser process. */
export declare class World {
    #private;
    locks: Map<string, {
        holder: Ask | undefined;
        queue: Ask[];
    }>;
    channels: Map<string, Set<FakeChannel>>;
    disk: MemoryFile;
    /** Nothing can be fetched. */
    isOffline: boolean;
    place: {
        isHeld: boolean;
        isComplete: boolean;
        quarantine: ChangeName[];
        opened: number;
    };
    locksOf(owner: object): Locks;
    /** Ends a tab as a crash does: its locks are free, its channels are deaf, nothing of it runs. */
    crash(tab: FakeTab): void;
    channel(owner: FakeTab, name: string): Channel;
}
declare class FakeChannel implements Channel {
    readonly world: World;
    readonly owner: FakeTab;
    readonly name: string;
    onmessage: ((event: {
        data: unknown;
    }) => void) | null;
    constructor(world: World, owner: FakeTab, name: string);
    postMessage(message: unknown): void;
    close(): void;
}
/** The one file, open for one tab. */
declare class HeldFile extends MemoryFile {
    #private;
    readonly world: World;
    readonly disk: MemoryFile;
    isGone: boolean;
    constructor(world: World, disk: MemoryFile);
    read(at: number, into: Uint8Array): number;
    write(at: number, from: Uint8Array): void;
    size(): number;
    truncate(size: number): void;
    close(): void;
    vanish(): void;
}
/** A tab with its page's link and its worker. */
export declare class FakeTab {
    #private;
    readonly world: World;
    isDead: boolean;
    file: HeldFile | undefined;
    link: PageLink;
    worker: Tab | undefined;
    /** How often it tried to fetch the WASM. */
    loads: number;
    /** Messages that left the page: how well they are batched. */
    sent: ToWorker[];
    constructor(world: World, options?: Partial<LinkOptions>);
    tell(message: ToWorker): void;
    closed: () => void;
}
export {};
