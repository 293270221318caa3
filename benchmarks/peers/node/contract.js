// The seed contract on socket.io, kept in memory. Written as its users would write it, with default settings.

import { randomBytes, timingSafeEqual } from "node:crypto";

/** What publishers ask for and clients join. `io` is a socket.io server. */
export class Contract {
  #tokens = new Map();
  #channels = new Map();
  #authKey;
  #io;

  constructor(io, authKey) {
    this.#io = io;
    this.#authKey = Buffer.from(authKey);
    io.on("connection", (socket) => {
      socket.emit("clientevent", { data: "Connected", count: 0 });
      socket.on("join_channel", ({ token }) => {
        const channel = this.#channels.get(token);
        if (channel === undefined) return socket.disconnect();
        socket.join(channel);
        socket.emit("clientevent", { data: `Connected to ${channel}` });
      });
    });
  }

  /** The status and the JSON that answer a publisher's request. */
  answer(method, path, authorization, body) {
    if (method === "GET" && path === "/healthz") return [200, "{}"];
    if (!this.#permits(authorization)) return [403, '{"success": false, "message": "wrong key"}'];
    const [, route, channel] = /^\/(channel|message)\/(.+)$/.exec(path) ?? [];
    if (method !== "POST" || route === undefined) return [404, '{"success": false, "message": "no such route"}'];
    const name = decodeURIComponent(channel);
    if (route === "channel") return [200, JSON.stringify({ success: true, token: this.#tokenOf(name) })];
    this.#io.to(name).emit("message", JSON.parse(body).message);
    return [200, '{"success": true}'];
  }

  #permits(authorization) {
    const given = Buffer.from(authorization ?? "");
    return given.length === this.#authKey.length && timingSafeEqual(given, this.#authKey);
  }

  #tokenOf(channel) {
    const known = this.#tokens.get(channel);
    if (known !== undefined) return known;
    const token = randomBytes(32).toString("base64url");
    this.#tokens.set(channel, token);
    this.#channels.set(token, channel);
    return token;
  }
}
