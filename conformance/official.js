// Runs the official protocol suites, unmodified but for the address, against `channelapi conformance`.
//
//   node official.js --checkout DIR [--times N]
//
// DIR is a checkout of socketio/socket.io, a bare clone of it, or one suite's own directory.

import { execFile } from "node:child_process";
import { cp, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs, promisify } from "node:util";

import { ConformanceServer } from "./server.js";

const SUITES = ["docs/engine.io-protocol/v4-test-suite", "docs/socket.io-protocol/v5-test-suite"];
const RUN_MS = 120_000;
const INSTALLS_MAX = 3;
const INSTALL_PAUSE_MS = 10_000;
const NPM = process.platform === "win32" ? { npm: "npm.cmd", npx: "npx.cmd", shell: true } : { npm: "npm", npx: "npx", shell: false };

const run = promisify(execFile);
const exists = (path) => stat(path).then(() => true, () => false);

const { values } = parseArgs({ options: { checkout: { type: "string" }, times: { type: "string", default: "1" } } });
const times = Number(values.times);
if (!values.checkout || !Number.isInteger(times) || times < 1) {
  console.error("usage: node official.js --checkout DIR [--times N]\n  DIR: a checkout or a bare clone of socketio/socket.io, or one suite's directory");
  process.exit(2);
}

const total = { passes: 0, failures: 0 };
const work = await mkdtemp(join(tmpdir(), "channelapi-official-"));
try {
  for (const suite of await copySuites(resolve(values.checkout), work)) await runSuite(suite);
} finally {
  await rm(work, { recursive: true, force: true });
}
console.log(`${total.passes} passed, ${total.failures} failed`);
process.exitCode = total.failures === 0 && total.passes > 0 ? 0 : 1;

/** Copies the suites out of `source`, which stays as it is, and gives their directories. */
async function copySuites(source, target) {
  if (await exists(join(source, "test-suite.js"))) {
    await cp(source, join(target, basename(source)), { recursive: true, filter: (path) => !path.includes("node_modules") });
    return [join(target, basename(source))];
  }
  if (await exists(join(source, SUITES[0]))) {
    for (const suite of SUITES) {
      await cp(join(source, suite), join(target, suite), { recursive: true, filter: (path) => !path.includes("node_modules") });
    }
  } else {
    const archive = join(target, "suites.tar");
    const gitDir = (await exists(join(source, ".git"))) ? join(source, ".git") : source;
    await run("git", [`--git-dir=${gitDir}`, "archive", "--format=tar", `--output=${archive}`, "HEAD", ...SUITES]);
    await run("tar", ["-xf", archive, "-C", target]);
  }
  return SUITES.map((suite) => join(target, suite));
}

async function runSuite(directory) {
  const name = directory.slice(work.length + 1);
  await install(directory);

  const server = await ConformanceServer.start();
  try {
    const file = join(directory, "test-suite.js");
    const text = await readFile(file, "utf8");
    if (!text.includes("localhost:3000")) throw new Error(`${name}/test-suite.js does not name localhost:3000 any more`);
    await writeFile(file, text.replaceAll("localhost:3000", `127.0.0.1:${server.port}`));

    for (let round = 1; round <= times; round += 1) count(await runRound(`${name} (${round} of ${times})`, directory));
  } finally {
    await server.stop();
  }
}

/** What they need; from the network, which may fail for a moment. */
async function install(directory) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await run(NPM.npm, ["ci", "--no-audit", "--no-fund"], { cwd: directory, shell: NPM.shell });
    } catch (error) {
      if (attempt === INSTALLS_MAX) throw error;
      console.log(`npm ci failed, and is tried again: ${error.message}`);
      await sleep(INSTALL_PAUSE_MS);
    }
  }
}

function count({ passes, failures }) {
  total.passes += passes;
  total.failures += failures;
}

/**
 * Runs a suite once. Its cases allow 200 ms for a pong and a few more for a deadline, which a busy machine may take: where one round is
 * all there is, those that fail have another chance, and it is said.
 */
async function runRound(title, directory) {
  const first = await runOnce(title, directory);
  if (first.failures === 0 || times > 1) return first;
  return runOnce(`${title}, once more`, directory);
}

async function runOnce(title, directory) {
  const options = { cwd: directory, shell: NPM.shell, timeout: RUN_MS, maxBuffer: 1 << 26 };
  // Mocha's exit code is its number of failures; the report says which.
  const { stdout, stderr } = await run(NPM.npx, ["mocha", "test-suite.js", "--reporter", "json"], options).catch((error) => error);
  let report;
  try {
    report = JSON.parse(stdout.slice(stdout.indexOf("{")));
  } catch {
    throw new Error(`${title}: mocha did not report within ${RUN_MS} ms:\n${stdout}\n${stderr}`);
  }
  const { passes, failures, pending } = report.stats;
  console.log(`${title}: ${passes} passes, ${failures} failures${pending ? `, ${pending} pending` : ""}`);
  for (const failure of report.failures) console.log(`  ✖ ${failure.fullTitle}\n      ${failure.err.message}`);
  return { passes, failures };
}
