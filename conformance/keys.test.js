// API keys on the wire: several of them, and a reload that stock clients do not notice.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { appendFile } from "node:fs/promises";
import { after, before, describe, it } from "node:test";

import { io } from "socket.io-client-4.x";

import { assertProblem } from "./problem.js";
import { Server } from "./server.js";
import { freshName } from "./stock.js";

const secret = () => randomBytes(24).toString("base64url");
const shop = secret();
const limited = secret();
const everywhere = secret();

/** A key of the list, by its hash. */
const listed = (name, key, rest) =>
  `[[auth_keys]]\nname = "${name}"\nhash = "sha256:${createHash("sha256").update(key).digest("hex")}"\n${rest}\n`;

let server;
before(async () => {
  const keys = [
    listed("shop", shop, 'scopes = ["publish", "tokens"]\nchannels = ["user-*"]'),
    listed("limited", limited, 'scopes = ["admin"]\nchannels = ["user-*"]'),
    listed("everywhere", everywhere, 'scopes = ["admin"]\nchannels = ["user-*", "*"]'),
  ];
  server = await Server.start([], { config: keys.join("") });
});
after(() => server?.stop());

const as = (key) => ({ authorization: `Bearer ${key}` });

async function connect(t, channel, transports) {
  const answer = await server.post(`/channel/${channel}`, "", as(shop));
  assert.equal(answer.status, 200, answer.body);
  const socket = io(server.url, { auth: { token: JSON.parse(answer.body).token }, transports, forceNew: true });
  t.after(() => socket.close());
  await once(socket, "connect");
  return socket;
}

describe("a key of the list", () => {
  it("publishes to its channels beside the key that may do everything", async (t) => {
    const channel = `user-${freshName()}`;
    const socket = await connect(t, channel, ["websocket"]);
    for (const headers of [as(shop), { authorization: shop }, { authorization: server.key }]) {
      const heard = once(socket, "message");
      assert.equal((await server.post(`/message/${channel}`, '{"message": "hello"}', headers)).body, '{"success": true}');
      assert.equal((await heard)[0], "hello");
    }
  });

  it("is told what it lacks", async () => {
    assertProblem(await server.v1("GET", "/channels/user-1/messages", undefined, as(shop)), 403, "missing_scope");
    assertProblem(await server.v1("POST", "/channels/news/messages", { data: 1 }, as(shop)), 403, "channel_not_allowed");
    const answer = await server.post("/message/news", '{"message": 1}', as(shop));
    assert.equal(answer.status, 403);
    assert.equal(answer.body, '{"success": false, "message": "The API key is not for this channel."}');
    const batch = await server.v1("POST", "/messages", { channels: ["user-1", "news"], data: 1 }, as(shop));
    assert.deepEqual(batch.json.results.map(({ status, code }) => [status, code]), [[201, undefined], [403, "channel_not_allowed"]]);
  });

  it("is for all channels where one of its patterns is", async () => {
    const made = await server.v1("POST", "/revocations", { jti: "2" }, as(everywhere));
    assert.equal(made.status, 201, made.body);
    assert.equal((await server.v1("DELETE", `/revocations/${made.json.id}`, undefined, as(everywhere))).status, 200);
    const metrics = await fetch(`${server.url}/metrics`, { headers: as(everywhere) });
    assert.equal(metrics.status, 200, await metrics.text());
  });

  it("revokes nothing where it is limited to channels: a revocation may concern every channel", async (t) => {
    const channel = `user-${freshName()}`;
    const socket = await connect(t, channel, ["websocket"]);
    const what = [{ channel }, { channel: "news" }, { sub: "ann" }, { jti: "1" }, {}];
    for (const body of what) {
      assertProblem(await server.v1("POST", "/revocations", body, as(limited)), 403, "channel_not_allowed");
    }
    const made = await server.v1("POST", "/revocations", { jti: "1" });
    assert.equal(made.status, 201, made.body);
    assertProblem(await server.v1("GET", "/revocations", undefined, as(limited)), 403, "channel_not_allowed");
    assertProblem(await server.v1("DELETE", `/revocations/${made.json.id}`, undefined, as(limited)), 403, "channel_not_allowed");
    const { json } = await server.v1("GET", "/revocations");
    assert.deepEqual(json.revocations.map(({ id }) => id), [made.json.id], "one was made, and it was not taken back");
    assertProblem(await server.v1("POST", "/channels/news/disconnect", {}, as(limited)), 403, "channel_not_allowed");
    const heard = once(socket, "message");
    assert.equal((await server.post(`/message/${channel}`, '{"message": "still here"}')).status, 200);
    assert.equal((await heard)[0], "still here");
    const gone = once(socket, "disconnect");
    assert.equal((await server.v1("POST", `/channels/${channel}/disconnect`, {}, as(limited))).status, 200, "of its own channels");
    await gone;
  });

  it("is refused in a URL", async () => {
    assertProblem(await server.v1("POST", `/messages?key=${shop}`, { channels: ["user-1"], data: 1 }), 400, "key_in_url");
    const answer = await server.post(`/message/user-1?api_key=${shop}`, '{"message": 1}');
    assert.equal(answer.status, 400);
    assert.match(answer.body, /^\{"success": false, "message": "A key in a URL ends up in logs/);
  });
});

describe("SIGHUP", () => {
  it("takes over a new key, and no client notices", async (t) => {
    const channel = `user-${freshName()}`;
    const sockets = await Promise.all([["websocket"], ["polling"]].map((transports) => connect(t, channel, transports)));
    const lost = [];
    for (const socket of sockets) socket.on("disconnect", (reason) => lost.push(reason));

    const added = secret();
    const publish = (key) => server.post(`/message/${channel}`, '{"message": "new"}', as(key));
    assert.equal((await publish(added)).status, 403);
    await appendFile(server.configFile, listed("added", added, 'scopes = ["publish"]'));
    server.process.child.kill("SIGHUP");
    while (!server.log.includes("the configuration is reloaded")) await once(server.process.child.stderr, "data");

    const heard = sockets.map((socket) => once(socket, "message"));
    assert.equal((await publish(added)).status, 200);
    assert.deepEqual((await Promise.all(heard)).map(([data]) => data), ["new", "new"]);
    assert.equal((await publish(shop)).status, 200);
    assert.deepEqual(lost, []);
  });
});
