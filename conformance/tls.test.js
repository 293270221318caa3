// TLS as stock clients meet it, what a handshake may be, and certificates that change while clients are connected.

import assert from "node:assert/strict";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import net from "node:net";
import { after, before, describe, it } from "node:test";
import tls from "node:tls";

import { io } from "socket.io-client-4.x";
import { WebSocket } from "ws";

import { Certificate } from "./certificates.js";
import { request } from "./http.js";
import { freePort, Server } from "./server.js";
import { freshName, StockClient, TRANSPORTS } from "./stock.js";
import { within } from "./wire.js";

let certificate;
let server;
before(async () => {
  certificate = await Certificate.make();
  server = await Server.start([...certificate.args, "--history-max-bytes", "64MiB"], { ca: certificate.ca });
});
after(async () => {
  await server?.stop();
  await certificate?.remove();
});

const client = (t, options) => new StockClient(t, io, server.url, { ca: certificate.ca, ...options });

/** A client in a channel of its own, which is returned. */
async function joined(t, options) {
  const channel = freshName();
  const stock = client(t, { auth: { token: await server.token(channel) }, ...options });
  await stock.settled();
  return [stock, channel];
}

/** Shakes hands, and gives the socket, or the error. */
function shake(options = {}) {
  return within(
    new Promise((resolve) => {
      const socket = tls.connect({ host: "127.0.0.1", port: server.port, servername: "localhost", ca: certificate.ca, ...options });
      socket.once("secureConnect", () => resolve({ socket }));
      socket.once("error", (error) => resolve({ error }));
    }),
    "the handshake to end",
  );
}

/** The value of a metric, by its name with its labels; undefined if it is not there. */
async function metric(name) {
  const page = await request(`${server.url}/metrics`, { ca: certificate.ca, headers: { authorization: `Bearer ${server.key}` } });
  assert.equal(page.status, 200);
  const line = page.body.split("\n").find((line) => line.startsWith(`${name} `));
  return line && Number(line.slice(name.length));
}

/** The certificate that a new connection is shown. */
async function shown() {
  const { socket, error } = await shake({ rejectUnauthorized: false });
  assert.ifError(error);
  const { fingerprint256 } = socket.getPeerCertificate();
  socket.destroy();
  return fingerprint256;
}

const CHANGED = "new connections get the new certificate";

/** How often the server has logged this. */
const count = (text) => server.log.split(text).length - 1;

/** What a stock client begins with. */
async function helloOf() {
  const listener = net.createServer().listen(0, "127.0.0.1");
  await once(listener, "listening");
  const client = tls.connect({ host: "127.0.0.1", port: listener.address().port, servername: "localhost" });
  client.on("error", () => {});
  const [socket] = await once(listener, "connection");
  const [hello] = await once(socket, "data");
  client.destroy();
  socket.destroy();
  listener.close();
  return hello;
}

/** Handshakes that were refused. */
async function refused() {
  const { body } = await request(`${server.api.url}/metrics`, { ...server.api, headers: { authorization: server.key } });
  return Number(body.match(/connections_refused_total\{reason="tls"\} (\d+)/)[1]);
}

/** Waits until the server has logged this so many times. */
async function logged(text, times = 1) {
  while (count(text) < times) await within(once(server.process.child.stderr, "data"), `the log to say: ${text}`);
}

describe("stock clients over TLS", () => {
  for (const [mode, transports] of Object.entries(TRANSPORTS)) {
    it(`join and receive: ${mode}`, async (t) => {
      const [stock, channel] = await joined(t, { transports });
      await stock.upgraded();
      await server.publish(channel, '{"text":"grüße","long":"' + "x".repeat(100_000) + '"}');
      await stock.message({ text: "grüße", long: "x".repeat(100_000) });
      await server.publish(channel, "1");
      await stock.message(1);
    });
  }

  it("come back to where they were", async (t) => {
    const [stock, channel] = await joined(t);
    await server.publish(channel, "1");
    await stock.kept(1);
    await server.crashAndRestart();
    await server.publish(channel, "2");
    await stock.message(2);
    assert.deepEqual(stock.recoveries, [false, true]);
    assert.deepEqual(stock.messages, [1, 2]);
  });

  it("get every byte in order however slowly they read", async (t) => {
    const channel = freshName();
    const token = await server.token(channel);
    const socket = new WebSocket(`${server.url.replace("https", "wss")}/socket.io/?EIO=4&transport=websocket`, { ca: certificate.ca });
    t.after(() => socket.terminate());
    const heard = [];
    let look = () => {};
    socket.on("message", (data) => {
      const text = data.toString();
      if (text === "2") socket.send("3");
      if (text.startsWith('42["message"')) heard.push(JSON.parse(text.slice(2))[1].number);
      look();
    });
    const until = async (what, holds) => {
      while (!holds()) await within(new Promise((resolve) => (look = resolve)), what);
    };
    await once(socket, "open");
    socket.send(`40${JSON.stringify({ token })}`);
    await server.publish(channel, '{"number":0}');
    await until("the first message", () => heard.length === 1);
    socket._socket.pause();
    const count = 60;
    const filler = "x".repeat(200_000); // 12 MB: more than the kernel takes for a client.
    for (let number = 1; number <= count; number += 1) {
      await server.publish(channel, JSON.stringify({ number, filler }));
    }
    socket._socket.resume();
    await until("all messages", () => heard.length > count);
    assert.deepEqual(heard, [...Array(count + 1).keys()]);
  });

  it("are answered in plain words when they forget the s", async () => {
    const answer = await request(`http://127.0.0.1:${server.port}/healthz`);
    assert.equal(answer.status, 400);
    assert.match(answer.body, /speaks HTTPS/);
  });
});

describe("a handshake", () => {
  it("is TLS 1.2 or 1.3", async () => {
    for (const version of ["TLSv1.2", "TLSv1.3"]) {
      const { socket, error } = await shake({ minVersion: version, maxVersion: version });
      assert.ifError(error);
      assert.equal(socket.getProtocol(), version);
      assert.ok(socket.authorized);
      socket.destroy();
    }
  });

  it("is not anything older", async () => {
    for (const version of ["TLSv1", "TLSv1.1"]) {
      const { error } = await shake({ minVersion: version, maxVersion: version, ciphers: "DEFAULT:@SECLEVEL=0" });
      assert.match(error?.code ?? "none", /ALERT_(PROTOCOL_VERSION|HANDSHAKE_FAILURE)/, version);
    }
  });

  it("uses no cipher without forward secrecy and authentication", async () => {
    for (const ciphers of ["AES128-GCM-SHA256", "AES256-SHA", "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384", "DHE-RSA-AES128-GCM-SHA256", "NULL", "aNULL"]) {
      const options = { maxVersion: "TLSv1.2", minVersion: "TLSv1.2", ciphers: `${ciphers}:@SECLEVEL=0` };
      const { error } = await shake(options).catch((error) => ({ error }));
      assert.match(error?.code ?? "none", /HANDSHAKE_FAILURE/, ciphers);
    }
    const { socket } = await shake({ maxVersion: "TLSv1.2", ciphers: "ECDHE-ECDSA-AES128-GCM-SHA256" });
    assert.equal(socket.getCipher().name, "ECDHE-ECDSA-AES128-GCM-SHA256");
    socket.destroy();
  });

  it("agrees on HTTP/1.1 or on nothing", async () => {
    for (const [offered, agreed] of [[["h2", "http/1.1"], "http/1.1"], [["http/1.1"], "http/1.1"], [undefined, false]]) {
      const { socket, error } = await shake({ ALPNProtocols: offered });
      assert.ifError(error);
      assert.equal(socket.alpnProtocol, agreed);
      socket.destroy();
    }
    const { error } = await shake({ ALPNProtocols: ["h2"] });
    assert.match(error?.code ?? "none", /NO_APPLICATION_PROTOCOL/);
  });

  it("cannot be begun anew", async () => {
    const { socket } = await shake({ maxVersion: "TLSv1.2" });
    const refused = new Promise((resolve) => socket.once("error", (error) => resolve(error.code)));
    const renegotiated = new Promise((resolve) => socket.renegotiate({ rejectUnauthorized: false }, (error) => error ?? resolve("done")));
    assert.equal(await within(Promise.race([renegotiated, refused]), "a refusal"), "ERR_SSL_NO_RENEGOTIATION");
    socket.destroy();
  });

  it("is resumed with a ticket", async () => {
    const { socket } = await shake({ maxVersion: "TLSv1.2" });
    const session = socket.getSession();
    socket.destroy();
    const { socket: again } = await shake({ maxVersion: "TLSv1.2", session });
    assert.ok(again.isSessionReused());
    again.destroy();
  });

  it("that is none, or only half of one, is closed and counted, and hinders nobody", async (t) => {
    const [stock, channel] = await joined(t);
    const record = (type, bytes, length = bytes.length) => Buffer.concat([Buffer.from([type, 3, 1, length >> 8, length & 255]), Buffer.from(bytes)]);
    const hello = await helloOf();
    const broken = {
      "garbage": Buffer.alloc(500, 0xff),
      "a hello of SSL 2": Buffer.from("802e0103010015000000100700c0030080010080060040040080020080000000", "hex"),
      "a record without an end": record(22, Buffer.alloc(1_000), 0xffff),
      "an empty record": record(22, []),
      "data before a handshake": record(23, Buffer.alloc(100)),
      "an alert before a handshake": record(21, [2, 40]),
      "a hello that is garbage": record(22, [1, 0, 1, 0, ...Buffer.alloc(256, 0xaa)]),
      "a hello that says it is 16 MiB": record(22, [1, 0xff, 0xff, 0xff, ...Buffer.alloc(16_000)]),
      "a server's hello": record(22, [2, 0, 0, 40, ...Buffer.alloc(40)]),
      "half of a good hello, and the end": hello.subarray(0, hello.length / 2),
      "a good hello, and garbage": Buffer.concat([hello, Buffer.alloc(300, 0x17)]),
      "a good hello, and the end": hello,
    };
    const before = await refused();
    for (const [what, bytes] of Object.entries(broken)) {
      const socket = net.connect(server.port, "127.0.0.1");
      socket.on("error", () => {});
      socket.resume();
      await once(socket, "connect");
      socket.end(bytes);
      // A reset is an end, too.
      await within(new Promise((resolve) => socket.once("close", resolve)), `an end of ${what}`);
      await server.publish(channel, JSON.stringify(what));
      await stock.message(what);
    }
    // The last of them may be counted a moment after it was closed.
    const until = performance.now() + 10_000;
    while ((await refused()) - before < Object.keys(broken).length) {
      assert.ok(performance.now() < until, `${(await refused()) - before} of ${Object.keys(broken).length} are counted`);
    }
    assert.ok(!server.log.includes("panicked"), server.log);
  });

  it("must be quick, and a thousand slow ones hinder nobody", async (t) => {
    const started = performance.now();
    const slow = await Promise.all(
      Array.from({ length: 1_000 }, async () => {
        const socket = net.connect(server.port, "127.0.0.1");
        socket.on("error", () => {});
        await once(socket, "connect");
        // The head of a hello that never comes, then a byte now and then.
        socket.write(Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc]));
        const dribble = setInterval(() => socket.write(Buffer.from([3])), 1_000);
        t.after(() => clearInterval(dribble));
        // A byte that comes after the end makes it a reset.
        const ended = new Promise((resolve) => socket.once("close", resolve)).then(() => {
          clearInterval(dribble);
          return performance.now() - started;
        });
        socket.resume();
        return { ended };
      }),
    );
    const [stock, channel] = await joined(t);
    await server.publish(channel, "1");
    await stock.message(1);
    const healthy = performance.now() - started;
    const ends = await within(Promise.all(slow.map(({ ended }) => ended)), "all slow ones to be closed", 30_000);
    assert.ok(Math.min(...ends) > 4_000, `not before their time: ${Math.min(...ends)} ms`);
    assert.ok(healthy < Math.max(...ends), `the healthy client did not wait for them: ${healthy} ms`);
  });
});

describe("a certificate", () => {
  it("is replaced under load, and nobody loses anything", async (t) => {
    const channel = freshName();
    const token = await server.token(channel);
    const stocks = Array.from({ length: 100 }, () => client(t, { auth: { token } }));
    await Promise.all(stocks.map((stock) => stock.settled()));
    let published = 0;
    let isOver = false;
    // Publishers connect for each message, so they must trust each certificate.
    const trusted = [certificate.ca];
    server.api.ca = trusted;
    let look = () => {};
    const publishing = (async () => {
      while (!isOver) {
        await server.publish(channel, String(published++));
        look();
      }
    })();
    const seen = new Set([await shown()]);
    const before = count(CHANGED);
    for (let change = 1; change <= 3; change += 1) {
      await certificate.renew();
      trusted.push(certificate.ca);
      // Whoever connects already does not trust it yet.
      for (const after = published + 2; published < after; ) {
        await within(Promise.race([new Promise((resolve) => (look = resolve)), publishing]), "a message to be published");
      }
      server.process.child.kill("SIGHUP");
      await logged(CHANGED, before + change);
      seen.add(await shown());
      assert.equal(seen.size, change + 1);
    }
    isOver = true;
    await publishing;
    await Promise.all(stocks.map((stock) => stock.message(published - 1)));
    for (const stock of stocks) {
      assert.deepEqual(stock.messages, [...Array(published).keys()]);
      assert.deepEqual(stock.of("disconnect"), []);
    }
    server.api.ca = certificate.ca;
    assert.equal(await metric('channelapi_certificate_reloads_total{result="shown"}'), 3);
    assert.equal(await metric('channelapi_certificate_reloads_total{result="failed"}'), 0);
  });

  it("says when it ends", async () => {
    const { socket, error } = await shake();
    assert.ifError(error);
    const end = Date.parse(socket.getPeerCertificate().valid_to) / 1000;
    socket.destroy();
    assert.equal(await metric("channelapi_certificate_end_time_seconds"), end);
  });

  it("that cannot be used replaces nothing", async () => {
    const good = await shown();
    const before = count(CHANGED);
    await writeFile(certificate.key, "-----BEGIN PRIVATE KEY-----\n");
    server.process.child.kill("SIGHUP");
    await logged("the new certificate cannot be used, the one before stays");
    assert.match(server.log, /holds no private key/);
    assert.equal(await shown(), good);
    await certificate.renew();
    server.process.child.kill("SIGHUP");
    await logged(CHANGED, before + 1);
    server.api.ca = certificate.ca;
    assert.notEqual(await shown(), good);
    assert.equal(await metric('channelapi_certificate_reloads_total{result="failed"}'), 1);
    assert.equal(await metric('channelapi_certificate_reloads_total{result="shown"}'), 4);
  });

  it("is found when its files change without a word", async (t) => {
    const other = await Certificate.make({ keyType: "rsa" });
    t.after(() => other.remove());
    const watched = await Server.start([...other.args, "--tls-reload-interval", "100ms"], { ca: other.ca });
    t.after(() => watched.stop());
    await other.renew();
    while (!watched.log.includes(CHANGED)) {
      await within(once(watched.process.child.stderr, "data"), "the change to be seen");
    }
    const answer = await request(`${watched.url}/healthz`, { ca: other.ca });
    assert.equal(answer.status, 200);
  });

  it("that is bad from the start stops the server with a reason", async (t) => {
    const bad = await Certificate.make();
    t.after(() => bad.remove());
    await writeFile(bad.key, "nothing");
    await assert.rejects(Server.start(bad.args, { ca: bad.ca }), /holds no private key/);
  });

  it("is where the plain port leads to", async (t) => {
    const port = await freePort();
    const own = await Certificate.make();
    const leading = await Server.start([...own.args, "--tls-redirect-port", String(port)], { ca: own.ca });
    t.after(() => leading.stop().finally(() => own.remove()));
    const answer = await request(`http://localhost:${port}/page?x=1`);
    assert.equal(answer.status, 308);
    assert.equal(answer.headers.location, `https://localhost:${leading.port}/page?x=1`);
    const post = await request(`http://localhost:${port}/message/x`, { method: "POST", body: "{}" });
    assert.equal(post.status, 403);
    assert.equal((await request(`http://localhost:${port}/.well-known/acme-challenge/none`)).status, 404);
    assert.equal((await request(`http://localhost:${port}/`, { headers: { host: "a b" } })).status, 400);
    const { body } = await request(`${leading.url}/metrics`, { ca: own.ca, headers: { authorization: leading.key } });
    // Whoever sends a key without encryption is counted.
    assert.match(body, /^channelapi_requests_refused_total\{reason="plain"\} 1$/m);
    assert.match(body, /^channelapi_requests_refused_total\{reason="not_found"\} 1$/m);
    assert.match(body, /^channelapi_requests_refused_total\{reason="invalid"\} 1$/m);
  });
});
