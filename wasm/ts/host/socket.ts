/** The engine's sockets: WebSockets of the browser or of Node, made so that one of a dead engine says nothing any more. */
import type { Socket, SocketEvents } from "./contract.js";

/** What is used of a WebSocket; the browser's, Node's and that of the package `ws` all have it. */
export interface WebSocketLike {
  binaryType: string;
  readonly protocol: string;
  readonly readyState: number;
  readonly bufferedAmount: number;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: never) => void) | null;
  onclose: ((event: never) => void) | null;
  onerror: ((event: never) => void) | null;
  send(data: Uint8Array<ArrayBuffer>): void;
  close(code?: number, reason?: string): void;
}

/** Makes a WebSocket. */
export type MakeWebSocket = (url: string, protocols: string[]) => WebSocketLike;

const OPEN = 1;

/** Finds what makes WebSockets of the platform, if it has them. */
export function platformWebSocket(): MakeWebSocket | null {
  return typeof WebSocket === "function" ? (url, protocols) => new WebSocket(url, protocols) as unknown as WebSocketLike : null;
}

/** The sockets of one engine. */
export class Sockets {
  #make: MakeWebSocket;
  #trap: (error: unknown) => void;
  #open = new Set<WebSocketLike>();

  /** What the engine throws when it is told of something goes to `trap`. */
  constructor(make: MakeWebSocket, trap: (error: unknown) => void) {
    this.#make = make;
    this.#trap = trap;
  }

  open(url: string, protocols: string[], on: SocketEvents): Socket {
    const tell = (event: () => void): void => {
      try {
        event();
      } catch (error) {
        this.#trap(error);
      }
    };
    try {
      return this.#wire(this.#make(url, protocols), on, tell);
    } catch (error) {
      // The engine is inside its own call just now, and must not be called back in it.
      setTimeout(() => tell(() => on.close(1006, String(error))));
      return { send: () => false, buffered: () => 0, close: () => {} };
    }
  }

  #wire(socket: WebSocketLike, on: SocketEvents, tell: (event: () => void) => void): Socket {
    this.#open.add(socket);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => tell(() => on.open(socket.protocol));
    socket.onmessage = ({ data }: { data: unknown }) =>
      tell(() => on.message(data instanceof ArrayBuffer ? new Uint8Array(data) : ArrayBuffer.isView(data) ? bytesOf(data) : null));
    socket.onclose = ({ code, reason }: { code: number; reason: string }) => {
      this.#open.delete(socket);
      silence(socket);
      tell(() => on.close(code, String(reason)));
    };
    // A close follows every error, and says as much as the error does.
    socket.onerror = () => {};
    return {
      send: (data) => {
        if (socket.readyState !== OPEN) return false;
        // The bytes are the engine's memory, which is its own again when this returns; not every WebSocket copies them by then.
        socket.send(data.slice());
        return true;
      },
      buffered: () => socket.bufferedAmount,
      close: (code, reason) => close(socket, code, reason),
    };
  }

  /** Closes them all, and lets none of them call the engine again. */
  closeAll(): void {
    for (const socket of this.#open) {
      silence(socket);
      close(socket, 1000, "");
    }
    this.#open.clear();
  }
}

function silence(socket: WebSocketLike): void {
  socket.onopen = socket.onmessage = socket.onclose = null;
  socket.onerror = () => {};
}

function close(socket: WebSocketLike, code: number, reason: string): void {
  try {
    // A program may close with 1000 and 3000 to 4999 only, and with 123 bytes of reason.
    if (code === 1000 || (code >= 3000 && code <= 4999)) socket.close(code, reason.slice(0, 40));
    else socket.close();
  } catch {
    // One that is closed already is what was asked for.
  }
}

function bytesOf(view: ArrayBufferView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}
