export declare const root: string;
/** A name that a module gives to its users. */
interface Export {
    name: string;
    type: boolean;
}
export interface Example {
    /** Where it stands: file and line. */
    name: string;
    /** The module made of it; it exports `run(repo, doc)`. */
    path: string;
    /** Whether it is run, not only compiled: a component needs something to show it. */
    runs: boolean;
}
/** Lists the TypeScript sources, from the package's directory. */
export declare function sources(directory?: string): string[];
/** Reads what an entry exports: by its `export { a, type b } from` lines, or directly. */
export declare function exportsOf(entry: string): Export[];
/** Writes every example as a module of its own, and returns them. */
export declare function writeExamples(): Example[];
/** Finds what is public and lacks a comment, or an example where it can be called. */
export declare function undocumented(): string[];
export {};
