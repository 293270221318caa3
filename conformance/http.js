// One HTTP request as it stands: the path is not normalised and the connection is not reused.

import http from "node:http";
import https from "node:https";

/**
 * Answers `{ status, headers, body }`; aborting `signal` closes the connection. `ca` is whom to trust for HTTPS, `socketPath` a
 * unix socket to ask instead of the host.
 */
export function request(url, { method = "GET", headers = {}, body, signal, ca, socketPath } = {}) {
  const { protocol, hostname, port } = new URL(url);
  // Everything behind the authority, exactly as the caller wrote it: `new URL` would resolve "a/../b".
  const path = url.slice(url.indexOf("/", `${protocol}//`.length));
  return new Promise((resolve, reject) => {
    const options = { method, hostname, port, path, headers: { ...headers }, agent: false, signal, ca, socketPath };
    if (body !== undefined) options.headers["content-length"] = Buffer.byteLength(body);
    const outgoing = (protocol === "https:" ? https : http).request(options, (incoming) => {
      const chunks = [];
      incoming.on("data", (chunk) => chunks.push(chunk));
      incoming.on("error", reject);
      incoming.on("end", () => {
        resolve({ status: incoming.statusCode, headers: incoming.headers, body: Buffer.concat(chunks).toString() });
      });
    });
    outgoing.on("error", reject);
    outgoing.end(body);
  });
}
