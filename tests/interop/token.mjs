// What an application's server does for its users, and what its page does with that: sign a token, exchange it for a ticket.
import { createHmac, sign as signBytes } from "node:crypto"

const base64url = value => Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url")

/** Signs a JWT: with a secret by HS256, with a private key by EdDSA. It is good for ten minutes unless the claims say otherwise. */
export function sign(key, claims) {
  const isSecret = typeof key === "string"
  const exp = Math.floor(Date.now() / 1_000) + 600
  const said = `${base64url({ alg: isSecret ? "HS256" : "EdDSA", typ: "JWT" })}.${base64url({ exp, ...claims })}`
  const seal = isSecret ? createHmac("sha256", key).update(said).digest() : signBytes(null, Buffer.from(said), key)
  return `${said}.${seal.toString("base64url")}`
}

/** Asks a relay for a ticket; `{ status, ticket, expires }`, or `{ status, code }` if there is none. */
export async function ticket(relay, token) {
  const answer = await fetch(`${relay}/ticket`, { method: "POST", headers: { authorization: `Bearer ${token}` } })
  const { ticket, expires, code } = await answer.json()
  return { status: answer.status, ticket, expires, code }
}
