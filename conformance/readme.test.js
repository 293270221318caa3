// The README's own commands, run as they stand: what a newcomer pastes must work.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { promisify } from "node:util";

import { io } from "socket.io-client-4.x";

import { Server } from "./server.js";
import { within } from "./wire.js";

const README = process.env.CHANNELAPI_README ?? new URL("../README.md", import.meta.url);
const CHANNEL = "demo";
const run = promisify(execFile);

let server, directory, readme;
before(async () => {
  readme = await readFile(README, "utf8");
  server = await Server.start();
  directory = await mkdtemp(join(tmpdir(), "channelapi-readme-"));
});
after(async () => {
  await server?.stop();
  if (directory) await rm(directory, { recursive: true, force: true });
});

/** The fenced sh block that follows the comment `<!-- test: NAME -->`. */
function block(name) {
  const found = new RegExp(`<!-- test: ${name} -->\\s*\`\`\`sh\\n([^]*?)\`\`\``).exec(readme);
  assert.ok(found, `README.md has no \`\`\`sh block after a line <!-- test: ${name} -->`);
  return found[1];
}

/** Runs a block with nothing replaced but the port and the key. */
async function paste(commands) {
  assert.match(commands, /\bcurl\b/);
  assert.match(commands, /8888/, "the block must use the default port, which the test replaces");
  assert.match(commands, /Authorization: /, "the block must send its key as Authorization, which the test replaces");
  const script = commands
    .replaceAll("8888", String(server.port))
    .replace(/(Authorization: (?:Bearer )?)[^"'\n]+/g, `$1${server.key}`);
  const { stdout } = await run("sh", ["-euc", script], { cwd: directory, timeout: 20_000 });
  return stdout;
}

describe("README.md", () => {
  it("gets a token and delivers a message with its curl lines", async (t) => {
    const answer = await paste(block("token"));
    const token = /"token": *"([A-Za-z0-9_-]{43})"/.exec(answer)?.[1];
    assert.ok(token, `no token in: ${answer}`);
    assert.equal(token, await server.token(CHANNEL), `the block must ask for the channel ${CHANNEL}`);

    const client = io(server.url);
    t.after(() => client.disconnect());
    const received = new Promise((resolve) => client.once("message", (...args) => resolve(args)));
    await within(new Promise((resolve) => client.once("connect", resolve)), "the client to connect");
    await within(new Promise((resolve) => client.emit("join_channel", { token }, resolve)), "the join to be acknowledged");

    const commands = block("message");
    const sent = /(?:-d|--data|--data-raw|--json)[ =]'([^']*)'/.exec(commands)?.[1];
    assert.ok(sent, "the block must send its body with -d '…'");
    assert.match(await paste(commands), /"success": true/);
    assert.deepEqual(await within(received, "the message"), [JSON.parse(sent).message]);
  });
});
