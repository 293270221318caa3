// The page at `/`, in a real browser: what a person sees who opens a fresh server, joins and is sent something.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";

import { chromium } from "playwright-core";

import { Server } from "./server.js";

const BROWSER = process.env.CHROMIUM_BIN ?? "/usr/bin/chromium";
const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync"];
const PATIENCE_MS = 20_000;
/** For its first start ever, from a disk that others use. */
const LAUNCH_MS = 120_000;

let server, profile, browser;
before(async () => {
  assert.ok(existsSync(BROWSER), `${BROWSER} is missing: install it with \`cargo xtask setup\`, or name another in CHROMIUM_BIN`);
  server = await Server.start();
  profile = await mkdtemp(join(tmpdir(), "channelapi-page-"));
  const options = { executablePath: BROWSER, headless: true, args: FLAGS, timeout: LAUNCH_MS };
  browser = await chromium.launchPersistentContext(profile, options);
  browser.setDefaultTimeout(PATIENCE_MS);
});
after(async () => {
  await browser?.close();
  if (profile) await rm(profile, { recursive: true, force: true });
  await server?.stop();
});

/** A page that has been opened, with everything it did wrong kept in `page.complaints` and its requests in `page.requested`. */
async function openPage(t) {
  const page = await browser.newPage();
  t.after(() => page.close());
  page.complaints = [];
  page.requested = [];
  const complain = (text) => page.complaints.push(text);
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && complain(message.text()));
  page.on("pageerror", (error) => complain(String(error)));
  page.on("dialog", (dialog) => complain(`dialog: ${dialog.message()}`) && dialog.dismiss());
  page.on("request", (request) => page.requested.push(request.url()));
  page.on("websocket", (socket) => page.requested.push(socket.url()));
  await page.exposeFunction("reportViolation", complain);
  await page.addInitScript(() => {
    addEventListener("securitypolicyviolation", (event) => reportViolation(`CSP: ${event.violatedDirective} ${event.blockedURI}`));
  });
  page.opened = await page.goto(server.url);
  assert.equal(page.opened.status(), 200);
  return page;
}

async function joinChannel(page, channel) {
  await page.fill("#token", await server.token(channel));
  await page.click("#join");
  await page.locator("#status", { hasText: channel }).waitFor();
}

function assertClean(page) {
  assert.deepEqual(page.complaints, []);
  for (const url of page.requested) {
    assert.equal(new URL(url).host, `127.0.0.1:${server.port}`, `the page asked for ${url}`);
  }
}

describe("the page at /", () => {
  it("opens without a complaint, under a content security policy that allows no inline script", async (t) => {
    const page = await openPage(t);
    await page.waitForLoadState("networkidle");
    const policy = page.opened.headers()["content-security-policy"];
    assert.ok(policy, "there is no Content-Security-Policy");
    assert.doesNotMatch(policy, /script-src[^;]*'unsafe-(inline|eval)'/);
    assertClean(page);
  });

  it("joins with a token and shows what is published", async (t) => {
    const page = await openPage(t);
    await joinChannel(page, "demo");
    await server.publish("demo", '"hello from the backend"');
    await page.locator("#log > li", { hasText: "hello from the backend" }).waitFor();
    await server.publish("demo", '{"n":12}');
    await page.locator("#log > li", { hasText: '"n"' }).waitFor();

    const picture = join(profile, "page.png");
    await page.screenshot({ path: picture });
    assert.ok((await readFile(picture)).length > 1_000);
    assertClean(page);
  });

  it("shows data as it was published", async (t) => {
    const page = await openPage(t);
    await joinChannel(page, "exact");
    const published = ["9007199254740993", "1e400", '{"a":1,"a":2}', "1.10", "null", '["x",  "]"]', '"\\u00e9"'];
    for (const data of published) await server.publish("exact", data);
    await page.locator("#log > li").nth(published.length - 1).waitFor();
    assert.deepEqual((await page.locator("#log > li > span").allTextContents()).reverse(), published);
    assertClean(page);
  });

  it("shows markup as text", async (t) => {
    const page = await openPage(t);
    const channel = "<b>markup</b>";
    await joinChannel(page, channel);
    const markup = "<img src=x onerror=alert(1)><script>alert(2)</script>";
    await server.publish(channel, JSON.stringify(markup));
    await page.locator("#log", { hasText: "onerror" }).waitFor();
    assert.ok((await page.locator("#log").textContent()).includes("<img src=x onerror=alert(1)>"));
    assert.equal(await page.locator("#log img, #log script, #status b, #log b").count(), 0);
    assertClean(page);
  });

  it("tells when a token is not accepted", async (t) => {
    const page = await openPage(t);
    const refusal = /not know|refused|rejected|unknown|invalid|disconnected|not accepted|not valid|wrong/i;
    assert.doesNotMatch(await page.locator("#status").textContent(), refusal);
    await page.fill("#token", "never-issued");
    await page.click("#join");
    await page.locator("#status", { hasText: refusal }).waitFor();
    assertClean(page);
  });

  it("tells whoever was in that the access has ended, and whoever comes again that the token is not known", async (t) => {
    const page = await openPage(t);
    const status = page.locator("#status.bad");
    await joinChannel(page, "ends");
    assert.equal((await server.v1("DELETE", "/channels/ends/tokens")).json.disconnected, 1);
    await status.waitFor();
    assert.match(await status.textContent(), /^Your access has ended/);
    await page.click("#join");
    await page.locator("#status.bad", { hasText: "does not know this token" }).waitFor();
    assertClean(page);
  });
});
