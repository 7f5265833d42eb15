/** A real relay in a process of its own, and a server in front of it that wants a token. */
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import WebSocket, { WebSocketServer } from "ws";
import { sign } from "../../tests/interop/token.mjs";

const BINARY = process.env.RELAY ?? fileURLToPath(new URL("../../target/debug/rejoin-relay", import.meta.url));

/** What the relay's tokens are signed with. */
const SECRET = "a secret of thirty-two bytes or more, for tests";

/** Signs a token that lets its holder do everything for ten minutes; each name gives another one. */
export function token(name) {
  return sign(SECRET, { sub: "page", jti: name, rejoin: { grants: [{ space: "*", access: "admin" }] } });
}

/** A port that nobody listens on. */
export async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Starts a relay (target/debug/rejoin-relay, or what RELAY names) on a new empty directory. */
export async function startRelay({ port } = {}) {
  const data = await mkdtemp(join(tmpdir(), "rejoin-relay-"));
  const at = port ?? (await freePort());
  const keys = `[{ alg = "HS256", secret = "${SECRET}" }]`;
  const options = ["--open", "--admin-enabled=false", "--auth-keys", keys, "--data", data, "--listen", `127.0.0.1:${at}`];
  const child = spawn(BINARY, ["serve", ...options], { stdio: ["ignore", "pipe", "ignore"] });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  await new Promise((resolve, reject) => {
    child.once("error", (error) => reject(new Error(`failed to start ${BINARY} (cargo build -p rejoin-relay): ${error.message}`)));
    child.once("exit", (code) => reject(new Error(`the relay ended with ${code}`)));
    // Its first line says that it listens.
    child.stdout.once("data", resolve);
  });
  return {
    url: `ws://127.0.0.1:${at}`,
    close: async () => {
      child.kill("SIGKILL");
      await ended;
      await rm(data, { recursive: true, force: true });
    },
  };
}

/** Starts a server that passes everything on to a relay for those who show the token, and closes on all others as a relay does. */
export async function startDoor(relayUrl, token) {
  const door = { token, refused: 0 };
  const server = new WebSocketServer({
    port: 0,
    host: "127.0.0.1",
    handleProtocols: (offered) => (offered.has("rejoin.v1") ? "rejoin.v1" : false),
  });
  await new Promise((resolve) => server.once("listening", resolve));
  const open = new Set();
  server.on("connection", (client) => {
    const behind = new WebSocket(relayUrl, ["rejoin.v1"]);
    const early = [];
    open.add(client);
    behind.on("open", () => early.splice(0).forEach((frame) => behind.send(frame)));
    behind.on("message", (frame) => client.send(frame));
    behind.on("close", () => client.close());
    behind.on("error", () => client.close());
    let isKnown = false;
    client.on("message", (frame) => {
      // The first frame is the greeting, which holds the token as it is.
      if (!isKnown && !frame.includes(door.token)) {
        door.refused++;
        client.close(1008, "unauthenticated: the token is expired");
        return;
      }
      isKnown = true;
      if (behind.readyState === WebSocket.OPEN) behind.send(frame);
      else early.push(frame);
    });
    client.on("close", () => {
      open.delete(client);
      behind.close();
    });
  });
  return Object.assign(door, {
    url: `ws://127.0.0.1:${server.address().port}`,
    /** Ends what is open, as a relay does whose tokens have run out. */
    expire: (next) => {
      door.token = next;
      for (const client of open) client.close(1008, "unauthenticated: the token is expired");
    },
    close: () => {
      for (const client of open) client.terminate();
      server.close();
    },
  });
}
