// One channelapi process under test: started on a free loopback port, stopped by the test that started it.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomBytes, randomInt } from "node:crypto";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import { request } from "./http.js";

const EXECUTABLE = process.platform === "win32" ? "channelapi.exe" : "channelapi";
const BINARY = process.env.CHANNELAPI_BIN ?? fileURLToPath(new URL(`../target/release/${EXECUTABLE}`, import.meta.url));
// Settings of the person who runs the tests must not reach the server under test.
const ENVIRONMENT = Object.fromEntries(Object.entries(process.env).filter(([name]) => name !== "PORT" && !name.startsWith("CHANNELAPI_")));
const READY_MS = 15_000;
const STOP_MS = 10_000;
/** A little less than `--test-timeout` in package.json, which ends a file without saying where it was. */
const FILE_MS = 470_000;

/** A child process with its output kept for the error message. */
class Process {
  log = "";

  constructor(args) {
    if (!existsSync(BINARY)) {
      throw new Error(`${BINARY} is missing: build it with \`cargo build --release\`, or name another in CHANNELAPI_BIN`);
    }
    this.child = spawn(BINARY, args, { stdio: ["ignore", "pipe", "pipe"], env: ENVIRONMENT });
    this.exited = once(this.child, "close"); // Not "exit", after which the last lines of the log may still come.
    running.add(this.child);
    this.exited.then(() => running.delete(this.child));
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream.setEncoding("utf8").on("data", (text) => (this.log += text));
    }
  }

  get alive() {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  /** Waits until `url` answers 200. */
  async ready(url, options) {
    const deadline = Date.now() + READY_MS;
    while (this.alive && Date.now() < deadline) {
      const answer = await request(url, options).catch(() => undefined);
      if (answer?.status === 200) return;
      await sleep(20);
    }
    this.child.kill("SIGKILL");
    throw new Error(`the server was not ready: no 200 from ${url}; its log:\n${this.log}`);
  }

  async signal(name) {
    if (this.alive) this.child.kill(name);
    const [code, signal] = await Promise.race([this.exited, sleep(STOP_MS, ["timeout"], { ref: false })]);
    if (code === "timeout") this.child.kill("SIGKILL");
    return { code, signal };
  }

  /** SIGTERM: the promise is a clean end, with exit code 0, within ten seconds. */
  async stop() {
    const { code, signal } = await this.signal("SIGTERM");
    assert.equal(code, 0, `SIGTERM must end the server with 0 within ${STOP_MS} ms, got ${code ?? signal}; its log:\n${this.log}`);
  }
}

// A test file that dies half-way must not leave servers behind.
const running = new Set();
process.on("exit", () => running.forEach((child) => child.kill("SIGKILL")));
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.once(signal, () => process.exit(1));

// The runner ends a file that takes too long, and does not say with which test. Not every process that starts a server runs tests.
if (process.env.NODE_TEST_CONTEXT) {
  let test = "nothing yet";
  beforeEach((t) => (test = t.name));
  const end = () => {
    console.error(`after ${FILE_MS} ms still at "${test}", with ${process.getActiveResourcesInfo().join(", ")}`);
    process.exit(1);
  };
  setTimeout(end, FILE_MS).unref();
}

/**
 * A port nobody listens on, from below the range that outgoing connections draw from: while a server restarts, a
 * reconnecting client must not be given the very port it dials, or it would connect to itself.
 */
export async function freePort() {
  for (;;) {
    const port = randomInt(10_000, 32_000);
    const probe = createServer();
    try {
      probe.listen(port, "127.0.0.1");
      await once(probe, "listening");
      return port;
    } catch {
      // Taken: draw again.
    } finally {
      probe.close();
    }
  }
}

/** The push server itself, with a data directory and a key of its own. */
export class Server {
  key = randomBytes(16).toString("hex");

  /**
   * `config` is the text of a configuration file, for what has no flag; `ca` is whom to trust when the server speaks TLS, and
   * `api` how to ask the HTTP API if that is somewhere else: a URL, or `{ socketPath }`.
   */
  static async start(extraArgs = [], { config, ca, api, port } = {}) {
    const server = new Server();
    server.extraArgs = extraArgs;
    server.port = port ?? (await freePort());
    server.url = `${ca ? "https" : "http"}://${ca ? "localhost" : "127.0.0.1"}:${server.port}`;
    server.ca = ca;
    server.api = typeof api === "string" ? { url: api } : { url: server.url, ca, ...api };
    server.dataDir = await mkdtemp(join(tmpdir(), "channelapi-conformance-"));
    if (config !== undefined) {
      server.configFile = `${server.dataDir}.toml`; // Beside the data directory, which belongs to the server.
      await writeFile(server.configFile, config);
      server.extraArgs = [...extraArgs, "--config", server.configFile];
    }
    try {
      await server.launch();
    } catch (error) {
      await server.process?.exited;
      await server.#remove();
      throw error;
    }
    return server;
  }

  async #remove() {
    await rm(this.dataDir, { recursive: true, force: true });
    if (this.configFile) await rm(this.configFile, { force: true });
  }

  async launch() {
    const args = ["--address", "127.0.0.1", "--port", this.port, "--data-dir", this.dataDir, "--auth-key", this.key];
    this.process = new Process([...args.map(String), ...this.extraArgs]);
    await this.process.ready(`${this.api.url}/healthz`, this.api);
  }

  get log() {
    return this.process.log;
  }

  async restart() {
    try {
      await this.process.stop();
    } finally {
      await this.launch(); // Even if it stopped badly: one failure should not fail every test after it.
    }
  }

  /** kill -9: `launch` starts it again, on the same port and directory. */
  async kill() {
    await this.process.signal("SIGKILL");
  }

  async crashAndRestart() {
    await this.kill();
    await this.launch();
  }

  async stop() {
    try {
      await this.process.stop();
    } finally {
      await this.#remove();
    }
  }

  /** A request to `/v1${path}` with this server's key. A `body` that is text is sent as it stands, anything else as JSON. */
  async v1(method, path, body, headers = {}) {
    const text = body === undefined || typeof body === "string" ? body : JSON.stringify(body);
    const answer = await request(`${this.api.url}/v1${path}`, {
      ...this.api,
      method,
      headers: { authorization: `Bearer ${this.key}`, ...(text === undefined ? {} : { "content-type": "application/json" }), ...headers },
      body: text,
    });
    if (/json/.test(answer.headers["content-type"] ?? "")) answer.json = JSON.parse(answer.body);
    return answer;
  }

  /** POST to `path` with this server's key, unless `headers` say otherwise. */
  post(path, body = "", headers = { authorization: this.key }) {
    return request(this.api.url + path, { ...this.api, method: "POST", headers, body });
  }

  /** The value of a metric, by its name with its labels. */
  async metric(name) {
    const { body } = await request(`${this.api.url}/metrics`, { ...this.api, headers: { authorization: this.key } });
    const line = body.split("\n").find((line) => line.startsWith(`${name} `));
    assert.ok(line, `there is no ${name} in ${body}`);
    return Number(line.slice(name.length));
  }

  async token(channel) {
    const answer = await this.post(`/channel/${encodeURIComponent(channel)}`);
    assert.equal(answer.status, 200, answer.body);
    return JSON.parse(answer.body).token;
  }

  /** Publishes `json`, which is JSON text and is sent as it stands. */
  async publish(channel, json) {
    const answer = await this.post(`/message/${encodeURIComponent(channel)}`, `{"message": ${json}}`);
    assert.equal(answer.status, 200, answer.body);
  }
}

/** `channelapi conformance`: the echo servers that the protocol suites talk to. */
export class ConformanceServer {
  /** `pingTimeout`, in milliseconds, allows more for a pong than the official suites do. */
  static async start({ pingTimeout } = {}) {
    const server = new ConformanceServer();
    server.port = await freePort();
    server.url = `http://127.0.0.1:${server.port}`;
    const patience = pingTimeout === undefined ? [] : ["--socketio-ping-timeout", `${pingTimeout}ms`];
    server.process = new Process(["conformance", "--port", String(server.port), ...patience]);
    await server.process.ready(`${server.url}/engine.io/?EIO=4&transport=polling`);
    return server;
  }

  stop() {
    return this.process.stop();
  }
}
