// Where the server listens besides its port, and whom it believes about who is calling.

import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import tls from "node:tls";

import { WebSocket } from "ws";

import { Certificate } from "./certificates.js";
import { request } from "./http.js";
import { freePort, Server } from "./server.js";
import { freshName } from "./stock.js";
import { Wire, within } from "./wire.js";

let directory;
before(async () => (directory = await mkdtemp(join(tmpdir(), "channelapi-listeners-"))));
after(() => rm(directory, { recursive: true, force: true }));

describe("a unix socket", () => {
  it("carries the HTTP API and clients, for its owner and group", async (t) => {
    const socketPath = join(directory, "all.sock");
    const server = await Server.start(["--http-unix", socketPath], { api: { socketPath } });
    t.after(() => server.stop());
    assert.equal((await stat(socketPath)).mode & 0o777, 0o660);
    const channel = freshName();
    const token = await server.token(channel);
    const socket = new WebSocket(`ws+unix://${socketPath}:/socket.io/?EIO=4&transport=websocket`);
    t.after(() => socket.terminate());
    const heard = [];
    let look = () => {};
    socket.on("message", (data) => (heard.push(data.toString()), look()));
    await once(socket, "open");
    socket.send(`40${JSON.stringify({ token, resume: false })}`);
    const until = async (part) => {
      while (!heard.some((text) => text.includes(part))) {
        await within(new Promise((resolve) => (look = resolve)), `${part}; heard ${heard}`);
      }
    };
    await until("clientevent");
    await server.publish(channel, '"over a file"');
    await until('42["message","over a file"]');
    // Nothing listens on the port.
    await assert.rejects(request(`http://127.0.0.1:${server.port}/healthz`), /ECONNREFUSED/);
  });

  it("is removed at the end, replaced after a crash, and never taken from the living", async (t) => {
    const socketPath = join(directory, "life.sock");
    const server = await Server.start(["--http-unix", socketPath], { api: { socketPath } });
    t.after(() => server.stop());
    await assert.rejects(Server.start(["--http-unix", socketPath], { api: { socketPath: `${socketPath}.none` } }), /another process does/);
    await server.kill();
    await stat(socketPath);
    await server.launch();
    await server.process.stop();
    await assert.rejects(stat(socketPath), /ENOENT/);
    await writeFile(socketPath, "not a socket");
    await assert.rejects(server.launch(), /is not a socket/);
    await rm(socketPath);
    await server.launch();
  });
});

describe("an internal listener", () => {
  for (const kind of ["port", "unix"]) {
    it(`takes the HTTP API off the public one: ${kind}`, async (t) => {
      const place = kind === "port" ? String(await freePort()) : join(directory, "internal.sock");
      const api = kind === "port" ? `http://127.0.0.1:${place}` : { socketPath: place };
      const server = await Server.start([`--internal-${kind}`, place], { api });
      t.after(() => server.stop());
      const channel = freshName();
      const token = await server.token(channel);
      const wire = await Wire.open(server.url);
      t.after(() => wire.close());
      wire.send(`40${JSON.stringify({ token, resume: false })}`);
      await wire.next();
      await wire.next();
      await server.publish(channel, "1");
      await wire.expect('42["message",1]');

      const headers = { authorization: server.key };
      for (const [method, path] of [["POST", `/channel/${channel}`], ["POST", `/message/${channel}`], ["GET", `/v1/channels/${channel}/messages`], ["GET", "/metrics"]]) {
        const answer = await request(server.url + path, { method, headers });
        assert.equal(answer.status, 404, `${path} on the public listener`);
      }
      for (const path of ["/", "/healthz", "/readyz"]) assert.equal((await request(server.url + path)).status, 200);
      const inside = (path) => request(server.api.url + path, server.api);
      assert.equal((await inside("/healthz")).status, 200);
      for (const path of ["/", "/socket.io/?EIO=4&transport=polling"]) assert.equal((await inside(path)).status, 404);
    });
  }
});

const SIGNATURE = Buffer.from("0d0a0d0a000d0a515549540a", "hex");
const BINARY = Buffer.concat([SIGNATURE, Buffer.from("21110010", "hex"), Buffer.from([203, 0, 113, 7, 10, 0, 0, 1, 18, 103, 1, 187, 4, 0, 1, 0])]);
const HEADERS = { "version 1": Buffer.from("PROXY TCP4 203.0.113.7 10.0.0.1 4711 443\r\n"), "version 2": BINARY };
const HEALTH = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

/** Everything that comes back for these bytes. */
async function sent(port, ...parts) {
  const socket = net.connect(port, "127.0.0.1");
  socket.on("error", () => {});
  let answer = "";
  socket.setEncoding("utf8").on("data", (text) => (answer += text));
  for (const part of parts) socket.write(part);
  await within(new Promise((resolve) => socket.once("close", resolve)), "the connection to end", 30_000);
  return answer;
}

describe("the PROXY protocol", () => {
  it("is read from a trusted proxy, which must speak it", async (t) => {
    const internal = await freePort();
    const args = ["--http-trusted-proxies", "127.0.0.1", "--http-proxy-protocol", "--internal-port", String(internal)];
    const proxied = await Server.start(args, { api: `http://127.0.0.1:${internal}` });
    t.after(() => proxied.stop());
    for (const [version, header] of Object.entries(HEADERS)) {
      assert.match(await sent(proxied.port, header, HEALTH), /^HTTP\/1.1 200/, version);
      // In whatever pieces it comes.
      assert.match(await sent(proxied.port, header.subarray(0, 7), header.subarray(7), HEALTH), /^HTTP\/1.1 200/, version);
    }
    assert.match(await sent(proxied.port, "PROXY UNKNOWN\r\n", HEALTH), /^HTTP\/1.1 200/);
    assert.equal(await sent(proxied.port, HEALTH), "", "without a header");
    assert.equal(await sent(proxied.port, "PROXY TCP4 203.0.113.7\r\n", HEALTH), "", "with half of one");
  });

  it("comes before TLS", async (t) => {
    const certificate = await Certificate.make();
    const internal = await freePort();
    const args = [...certificate.args, "--http-trusted-proxies", "127.0.0.0/8", "--http-proxy-protocol", "--internal-port", String(internal)];
    const proxied = await Server.start(args, { ca: certificate.ca, api: `http://127.0.0.1:${internal}` });
    t.after(() => proxied.stop().finally(() => certificate.remove()));
    for (const header of Object.values(HEADERS)) {
      const plain = net.connect(proxied.port, "127.0.0.1");
      plain.write(header);
      const socket = tls.connect({ socket: plain, servername: "localhost", ca: certificate.ca });
      await within(once(socket, "secureConnect"), "the handshake");
      socket.write(HEALTH);
      const [answer] = await within(once(socket, "data"), "an answer");
      assert.match(answer.toString(), /^HTTP\/1.1 200/);
      socket.destroy();
    }
  });

  it("is a malformed request from everybody else", async (t) => {
    const internal = await freePort();
    const settings = [[], ["--http-trusted-proxies", "10.0.0.1", "--http-proxy-protocol", "--internal-port", String(internal)]];
    for (const args of settings) {
      const server = await Server.start(args);
      t.after(() => server.stop());
      for (const [version, header] of Object.entries(HEADERS)) {
        assert.match(await sent(server.port, header, HEALTH), /^(HTTP\/1.1 400|$)/, version);
      }
      assert.match(await sent(server.port, HEALTH), /^HTTP\/1.1 200/);
    }
  });
});
