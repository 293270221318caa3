// Certificates from an authority: Pebble, a small one for tests, runs beside the server. `cargo xtask setup` installs it where
// there is Go.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import tls from "node:tls";
import { fileURLToPath } from "node:url";

import { io } from "socket.io-client-4.x";

import { Certificate } from "./certificates.js";
import { request } from "./http.js";
import { freePort, Server } from "./server.js";
import { within } from "./wire.js";

const PEBBLE = process.env.PEBBLE_BIN ?? fileURLToPath(new URL("../target/tools/bin/pebble", import.meta.url));
const isInstalled = existsSync(PEBBLE);
if (!isInstalled) {
  const bar = "━".repeat(100);
  console.log(`${bar}\n  THE TESTS AGAINST AN AUTHORITY DID NOT RUN: Pebble is not installed.\n  Install Go, then run \`cargo xtask setup\`, or name a binary in PEBBLE_BIN.\n${bar}`);
}

const DOMAINS = ["push.example.test", "www.example.test"];

/** The answer to a question of the DNS: every name leads to this machine. */
function answerTo(question) {
  const end = question.indexOf(0, 12) + 5;
  const isForIpv4 = question.readUInt16BE(end - 4) === 1;
  const answer = Buffer.concat([question.subarray(0, end), isForIpv4 ? Buffer.from("c00c000100010000003c00047f000001", "hex") : Buffer.alloc(0)]);
  answer.writeUInt16BE(0x8180, 2);
  answer.writeUInt16BE(isForIpv4 ? 1 : 0, 6);
  answer.writeUInt32BE(0, 8);
  return answer;
}

/** Names that lead here, for an authority that asks over TCP. */
async function startNames() {
  const server = net.createServer((socket) => {
    socket.on("error", () => {});
    socket.on("data", (bytes) => {
      const answer = answerTo(bytes.subarray(2));
      const length = Buffer.alloc(2);
      length.writeUInt16BE(answer.length);
      socket.write(Buffer.concat([length, answer]));
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return server;
}

/** Waits until new connections have got so many certificates. */
async function issued(server, times) {
  const count = () => server.log.split("new connections get the new certificate").length - 1;
  while (count() < times) await within(once(server.process.child.stderr, "data"), `certificate ${times}; the log: ${server.log}`, 20_000);
}

async function metricsOf(server) {
  const page = await request(`${server.api.url}/metrics`, { headers: { authorization: `Bearer ${server.key}` } });
  assert.equal(page.status, 200);
  return page.body;
}

describe("an authority", { skip: !isInstalled && "Pebble is not installed" }, () => {
  let directory, identity, names, pebble, directoryUrl;
  const ports = {};
  /** Starts the authority, which knows nothing of what it did before. */
  const startPebble = async () => {
    pebble = spawn(PEBBLE, ["-config", join(directory, "pebble.json"), "-strict", "-dnsserver", `127.0.0.1:${names.address().port}`], {
      env: { ...process.env, PEBBLE_VA_NOSLEEP: "1", PEBBLE_WFE_NONCEREJECT: "10" },
      stdio: ["ignore", "pipe", "pipe"],
    });
    pebble.log = "";
    for (const stream of [pebble.stdout, pebble.stderr]) stream.setEncoding("utf8").on("data", (text) => (pebble.log += text));
    while (!pebble.log.includes("Listening on")) {
      await within(Promise.race([once(pebble.stdout, "data"), once(pebble, "exit")]), `Pebble to start: ${pebble.log}`);
    }
  };
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "channelapi-acme-"));
    identity = await Certificate.make();
    names = await startNames();
    for (const name of ["acme", "management", "http", "tls"]) ports[name] = await freePort();
    await writeFile(
      join(directory, "pebble.json"),
      JSON.stringify({
        pebble: {
          listenAddress: `127.0.0.1:${ports.acme}`,
          managementListenAddress: `127.0.0.1:${ports.management}`,
          certificate: identity.cert,
          privateKey: identity.key,
          httpPort: ports.http,
          tlsPort: ports.tls,
          keyAlgorithm: "ecdsa",
          retryAfter: { authz: 1, order: 1 },
          // A life of seconds, so that it is renewed while we watch.
          profiles: { default: { description: "short", validityPeriod: 21 } },
        },
      }),
    );
    directoryUrl = `https://localhost:${ports.acme}/dir`;
    await startPebble();
  });
  after(async () => {
    pebble?.kill();
    names?.close();
    await identity?.remove();
    await rm(directory, { recursive: true, force: true });
  });

  for (const challenge of ["tls-alpn-01", "http-01"]) {
    it(`gives a certificate for several names, and renews it: ${challenge}`, async (t) => {
      const internal = await freePort();
      const args = ["--acme-domains", DOMAINS.join(","), "--acme-terms-agreed", "--acme-email", "admin@example.test"];
      args.push("--acme-directory", directoryUrl, "--acme-ca-file", identity.cert, "--acme-challenge", challenge);
      args.push("--tls-redirect-port", String(ports.http), "--internal-port", String(internal));
      const server = await Server.start(args, { api: `http://127.0.0.1:${internal}`, port: ports.tls });
      t.after(() => server.stop());
      const shown = async () => {
        const socket = tls.connect({ host: "127.0.0.1", port: ports.tls, servername: DOMAINS[1], rejectUnauthorized: false });
        await within(once(socket, "secureConnect"), "the handshake");
        const certificate = socket.getPeerCertificate();
        socket.destroy();
        return certificate;
      };
      await issued(server, 1);
      const first = await shown();
      assert.deepEqual(first.subjectaltname.split(", ").sort(), DOMAINS.map((name) => `DNS:${name}`).sort());
      assert.equal(tls.checkServerIdentity(DOMAINS[0], first), undefined);
      await issued(server, 2);
      const second = await shown();
      assert.notEqual(second.fingerprint256, first.fingerprint256);
      const metrics = await metricsOf(server);
      assert.ok(Number(/^channelapi_certificate_orders_total\{result="issued"\} (\d+)$/m.exec(metrics)?.[1]) >= 2, metrics);
      const end = Number(/^channelapi_certificate_end_time_seconds (\d+)$/m.exec(metrics)?.[1]);
      assert.ok(end >= Date.parse(second.valid_to) / 1000, `the end of the second or of a later one: ${end}`);

      // It is kept, with the account, for nobody else to read.
      const kept = (name) => join(server.dataDir, "acme", name);
      for (const name of ["account.json", "certificate.pem"]) assert.equal((await stat(kept(name))).mode & 0o777, 0o600);
      const account = await readFile(kept("account.json"), "utf8");
      await server.restart();
      const third = await shown();
      assert.equal(await readFile(kept("account.json"), "utf8"), account);
      assert.ok(third.fingerprint256);
    });
  }

  it("is asked for something else after a reload, and nobody loses a connection", async (t) => {
    const internal = await freePort();
    const config = (lines) =>
      `[acme]\nterms_agreed = true\ndirectory = "${directoryUrl}"\nca_file = "${identity.cert}"\n${lines}\n[tls]\nredirect_port = ${ports.http}\n[internal]\nport = ${internal}\n`;
    const begun = config(`domains = ["${DOMAINS[0]}"]`);
    const server = await Server.start([], { api: `http://127.0.0.1:${internal}`, port: ports.tls, config: begun });
    t.after(() => server.stop());
    const until = async (what, isSo) => {
      while (!(await isSo())) await within(once(server.process.child.stderr, "data"), `${what}; the log: ${server.log}`, 20_000);
    };
    const reload = async (lines) => {
      const reloads = () => server.log.split("the configuration is reloaded").length;
      const before = reloads();
      await writeFile(server.configFile, config(lines));
      server.process.child.kill("SIGHUP");
      await until("the reload", () => reloads() > before);
    };
    const names = async () => {
      const socket = tls.connect({ host: "127.0.0.1", port: ports.tls, servername: DOMAINS[0], rejectUnauthorized: false });
      await within(once(socket, "secureConnect"), "the handshake");
      const certificate = socket.getPeerCertificate();
      socket.destroy();
      return certificate.subjectaltname.split(", ").sort().join();
    };
    const of = (domains) => domains.map((name) => `DNS:${name}`).sort().join();
    const account = async () => JSON.parse(await readFile(join(server.dataDir, "acme", "account.json"), "utf8"));

    await until("a certificate", () => server.log.includes("new connections get the new certificate"));
    assert.equal(await names(), of([DOMAINS[0]]));
    const client = io(`https://127.0.0.1:${ports.tls}`, { transports: ["websocket"], rejectUnauthorized: false });
    t.after(() => client.close());
    await within(once(client, "connect"), "the client to connect");
    const gone = new Promise((resolve) => client.once("disconnect", resolve));

    // Another name, proven in another way.
    await reload(`domains = ${JSON.stringify(DOMAINS)}\nchallenge = "http-01"`);
    const shown = await names();
    const isOrdered = server.log.split("new connections get the new certificate").length > 2;
    assert.ok(shown === of([DOMAINS[0]]) || isOrdered, "the one before is shown until there is one for both");
    await until("a certificate for both names", async () => (await names()) === of(DOMAINS));
    const before = await account();

    // Another address alone needs no order, and is the same account's.
    await reload(`domains = ${JSON.stringify(DOMAINS)}\nemail = "admin@example.test"`);
    await within(
      (async () => {
        while ((await account()).email !== "admin@example.test") await new Promise((resolve) => setTimeout(resolve, 20));
      })(),
      "the authority to hear of it",
    );
    assert.deepEqual((await account()).credentials, before.credentials);
    assert.doesNotMatch(server.log, /needs a restart|does not know acme.email/);
    assert.equal(await Promise.race([gone, "still there"]), "still there");
  });

  it("that has lost its accounts is given a new one", async (t) => {
    const internal = await freePort();
    const args = ["--acme-domains", DOMAINS[0], "--acme-terms-agreed", "--acme-directory", directoryUrl, "--acme-ca-file", identity.cert];
    args.push("--internal-port", String(internal));
    const server = await Server.start(args, { api: `http://127.0.0.1:${internal}`, port: ports.tls });
    t.after(() => server.stop());
    const account = async () => JSON.parse(await readFile(join(server.dataDir, "acme", "account.json"), "utf8")).credentials;
    await issued(server, 1);
    const before = await account();
    const ended = once(pebble, "exit");
    pebble.kill();
    await within(ended, "Pebble to end");
    await startPebble();
    await issued(server, 2);
    assert.match(server.log, /the authority does not know the account that is kept; making another/);
    assert.notDeepEqual(await account(), before);
  });

  it("that is not there leaves the server running, and is asked again", async (t) => {
    const internal = await freePort();
    const args = ["--acme-domains", DOMAINS[0], "--acme-terms-agreed", "--acme-directory", `https://localhost:${await freePort()}/dir`];
    args.push("--acme-ca-file", identity.cert, "--internal-port", String(internal));
    const server = await Server.start(args, { api: `http://127.0.0.1:${internal}` });
    t.after(() => server.stop());
    while (!server.log.includes("cannot get a certificate")) await within(once(server.process.child.stderr, "data"), "the failure to be said");
    assert.match(server.log, /retry_s/);
    const ready = await request(`${server.api.url}/readyz`, server.api);
    assert.equal(ready.status, 503);
    assert.equal(JSON.parse(ready.body).reason, "there is no certificate to show, or it has ended");
    const metrics = await metricsOf(server);
    assert.match(metrics, /^channelapi_certificate_orders_total\{result="failed"\} [1-9]/m);
    assert.doesNotMatch(metrics, /^channelapi_certificate_end_time_seconds/m, "there is none");
    const socket = tls.connect({ host: "127.0.0.1", port: server.port, servername: DOMAINS[0], rejectUnauthorized: false });
    await within(once(socket, "error"), "the handshake to fail");
  });
});
