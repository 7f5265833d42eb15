/** Turns what packages require of each other from React to the React 18 beside it: Node resolves that, and knows nothing of aliases. */
import Module from "node:module";

const resolver = Module as unknown as { _resolveFilename(request: string, ...rest: unknown[]): string };
const resolve = resolver._resolveFilename;
resolver._resolveFilename = (request, ...rest) => resolve.call(Module, request.replace(/^(react|react-dom)(?=$|\/)/, "$1-18"), ...rest);
