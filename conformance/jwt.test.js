// JWTs at every door, with stock clients: joining, the end of a JWT, a new one while connected, and revocation.

import assert from "node:assert/strict";
import { createHmac, randomUUID } from "node:crypto";
import { after, before, describe, it } from "node:test";
import { setTimeout } from "node:timers/promises";

import { io as io4x } from "socket.io-client-4.x";

import { publishAll } from "./burst.js";
import { assertProblem } from "./problem.js";
import { Server } from "./server.js";
import { StockClient, freshName } from "./stock.js";
import { Wire, within } from "./wire.js";

const SECRET = "a secret of the tests, with more than 32 bytes";
const CONFIG = `
[[jwt]]
issuer = "https://issuer.example"
audience = ["push"]
secret = "${SECRET}"

[[jwt]]
issuer = "patterns"
secret = "${SECRET} of another"
grants = ["p:*"]
allow_patterns = true
`;

let server;
before(async () => (server = await Server.start([], { config: CONFIG })));
after(() => server?.stop());

const seconds = () => Math.floor(Date.now() / 1000);

/** A JWT for these channels, good for `ttl` seconds, with more claims or others. */
function sign(channels, ttl = 600, more = {}, { header = { alg: "HS256", typ: "JWT" }, secret = SECRET } = {}) {
  const iat = seconds();
  const claims = { iss: "https://issuer.example", aud: "push", sub: `u-${randomUUID()}`, iat, exp: iat + ttl, channels, ...more };
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const message = `${part(header)}.${part(claims)}`;
  return `${message}.${createHmac("sha256", secret).update(message).digest("base64url")}`;
}

const byPatterns = (channels) => sign(channels, 600, { iss: "patterns", aud: undefined }, { secret: `${SECRET} of another` });

/** JWTs that open nothing: what a client may bring to any door. */
const REFUSED = {
  "signed by nobody": () => sign(["a"], 600, {}, { header: { alg: "none" } }).replace(/[^.]*$/, ""),
  "signed with another secret": () => sign(["a"], 600, {}, { secret: "another secret of more than thirty-two bytes" }),
  "of another issuer": () => sign(["a"], 600, { iss: "https://mallory.example" }),
  "for somebody else": () => sign(["a"], 600, { aud: "another application" }),
  "without an end": () => sign(["a"], 600, { exp: undefined }),
  "with an end that is text": () => sign(["a"], 600, { exp: "9999999999" }),
  "for nothing": () => sign([]),
  "for everything": () => sign(["*"]),
  "with an unknown extension": () => sign(["a"], 600, {}, { header: { alg: "HS256", crit: ["x"], x: 1 } }),
  "too long": () => sign(["a"], 600, { x: "x".repeat(9_000) }),
};

const client = (t, auth, options = {}) => new StockClient(t, io4x, server.url, { auth, ...options });

/** What a CONNECT with this is refused with. */
async function refusal(t, auth) {
  const [error] = await client(t, auth, { reconnection: false }).nth("connect_error");
  return error.data.code;
}

const revoke = async (what) => {
  const answer = await server.v1("POST", "/revocations", what);
  assert.equal(answer.status, 201, answer.body);
  return answer.json;
};

describe("a JWT at the handshake door", () => {
  it("opens the channels that it names, and they are recovered", async (t) => {
    const [one, two, other] = [freshName(), freshName(), freshName()];
    const stock = client(t, (give) => give({ token: sign([one, two]) }));
    await stock.settled();
    await publishAll(server, one, [1]);
    await publishAll(server, other, ["not for this client"]);
    await publishAll(server, two, [2]);
    await stock.kept(2);
    assert.deepEqual(stock.messages, [1, 2]);
    stock.socket.io.engine.close();
    await stock.nth("disconnect");
    await publishAll(server, one, [3]);
    await stock.kept(3);
    assert.deepEqual(stock.recoveries, [false, true]);
  });

  it("is taken beside tokens, as jwt, and for some of its channels only", async (t) => {
    const [byToken, byJwt, notWanted] = [freshName(), freshName(), freshName()];
    const stock = client(t, { token: await server.token(byToken), jwt: sign([byJwt, notWanted]), channels: [byToken, byJwt] });
    await stock.settled();
    await publishAll(server, notWanted, ["not wanted"]);
    await publishAll(server, byToken, [1]);
    await publishAll(server, byJwt, [2]);
    await stock.kept(2);
    assert.deepEqual(stock.messages, [1, 2]);
  });

  it("opens what its patterns match where they are allowed, and no more than its issuer may", async (t) => {
    const mine = `p:${freshName()}`;
    const stock = client(t, { jwt: byPatterns(["*"]), channels: [mine] });
    await stock.settled();
    await publishAll(server, mine, [1]);
    await stock.kept(1);
    assert.equal(await refusal(t, { jwt: byPatterns(["*"]), channels: ["q:secret"] }), "not_granted");
    assert.equal(await refusal(t, { jwt: sign(["user:1"]), channels: ["user:10"] }), "not_granted");
  });

  for (const [what, make] of Object.entries(REFUSED)) {
    it(`is refused when it is ${what}`, async (t) => assert.equal(await refusal(t, { token: make() }), "token_invalid"));
  }

  it("is told from an invalid one when it has ended, or is not good yet", async (t) => {
    assert.equal(await refusal(t, { token: sign(["a"], -60) }), "token_expired");
    for (const early of [{ nbf: seconds() + 60 }, { iat: seconds() + 60 }]) {
      assert.equal(await refusal(t, { token: sign(["a"], 600, early) }), "token_not_yet_valid");
    }
  });
});

describe("join_channel with a JWT", () => {
  const connect = async (t) => {
    const wire = await Wire.open(server.url);
    t.after(() => wire.close());
    wire.send("40");
    assert.match(await wire.next(), /^40\{/);
    await wire.expect('42["clientevent",{"data":"Connected","count":0}]');
    return wire;
  };
  const join = (wire, argument, id = "") => wire.send(`42${id}["join_channel",${JSON.stringify(argument)}]`);

  it("is answered as the seed answers tokens", async (t) => {
    const [channel, other] = [freshName(), `p:${freshName()}`];
    const wire = await connect(t);
    join(wire, { token: sign([channel]) }, 1);
    await wire.expect(`42["clientevent",{"data":"Connected to ${channel}"}]`);
    await wire.expect("431[]");
    join(wire, JSON.stringify({ token: byPatterns(["p:*"]), channel: other }));
    await wire.expect(`42["clientevent",{"data":"Connected to ${other}"}]`);
    await server.publish(channel, "1");
    await wire.expect('42["message",1]');
  });

  it("tells whoever asks why a good one does not open the channel, and lets it stay", async (t) => {
    const wire = await connect(t);
    const error = async (argument, code) => {
      join(wire, argument, 7);
      const answer = await wire.next();
      assert.match(answer, /^437\[/);
      assert.equal(JSON.parse(answer.slice(3))[0].error.code, code);
    };
    await error({ token: sign(["a"], -60) }, "token_expired");
    await error({ token: sign(["a"], 600, { nbf: seconds() + 60 }) }, "token_not_yet_valid");
    await error({ token: sign(["user:1"]), channel: "user:10" }, "not_granted");
    await error({ token: sign(["a", "b"]) }, "bad_request");
    join(wire, { token: sign(["a", "b"]), channel: "b" }, 8);
    await wire.expect('42["clientevent",{"data":"Connected to b"}]');
  });

  for (const [what, make] of Object.entries(REFUSED)) {
    it(`is a disconnect when it is ${what}`, async (t) => {
      const wire = await connect(t);
      join(wire, { token: make() }, 1);
      await wire.expect("41");
    });
  }
});

describe("a JWT on an event stream", () => {
  const status = async (url, channel, token, headers = {}) => {
    const abort = new AbortController();
    const answer = await fetch(`${url}/v1/channels/${channel}/stream?token=${token}`, { headers, signal: abort.signal });
    abort.abort();
    return answer.status;
  };

  it("opens its channel and no other", async () => {
    const [mine, other] = [freshName(), freshName()];
    const token = sign([mine]);
    assert.equal(await status(server.url, mine, token), 200);
    assert.equal(await status(server.url, other, token), 403);
    assert.equal(await status(server.url, mine, sign([mine], -60)), 403);
  });

  // Once, whatever was refused counted as a guess, and with it everybody behind the same address.
  it("is no guess when it has ended or opens another channel", async (t) => {
    const strict = await Server.start(["--http-trusted-proxies", "127.0.0.1", "--limits-failed-tokens", "3"], { config: CONFIG });
    t.after(() => strict.stop());
    const [mine, other] = [freshName(), freshName()];
    const ask = (token) => status(strict.url, mine, token, { "x-forwarded-for": "203.0.113.1" });
    for (let round = 0; round < 5; round += 1) {
      assert.deepEqual([await ask(sign([mine], -60)), await ask(sign([other]))], [403, 403]);
    }
    assert.equal(await ask(sign([mine])), 200);
    assert.deepEqual([await ask("a"), await ask("b"), await ask("c"), await ask("d")], [403, 403, 403, 429]);
  });
});

describe("a client that brings a hundred JWTs at once, again and again", () => {
  const many = (own = freshName()) => [sign([own]), ...Array.from({ length: 127 }, () => sign([freshName()]))];

  it("is put out when it does so to come in", async (t) => {
    const wire = await Wire.open(server.url);
    t.after(() => wire.close());
    const packet = `40${JSON.stringify({ tokens: many(), channels: [freshName()] })}`;
    wire.send(packet);
    assert.match(await wire.next(), /^44.*"not_granted"/);
    wire.send(packet);
    await wire.expect("41");
  });

  it("is put out when it does so to stay", async (t) => {
    const wire = await Wire.open(server.url);
    t.after(() => wire.close());
    const own = freshName();
    wire.send(`40${JSON.stringify({ token: sign([own]), resume: false })}`);
    assert.match(await wire.next(), /^40/);
    await wire.expect('42["clientevent",{"data":"Connected","count":0}]');
    const packet = `421["auth",${JSON.stringify({ tokens: many(own) })}]`;
    wire.send(packet);
    assert.match(await wire.next(), /^431\[\{.*"left":\[\]/);
    wire.send(packet);
    await wire.expect("41");
  });
});

describe("the end of a JWT", () => {
  it("is announced, and a new one in time keeps the connection and its channels", async (t) => {
    const [kept, dropped] = [freshName(), freshName()];
    const stock = client(t, { token: sign([kept, dropped], 5) });
    await stock.settled();
    const [announced] = await stock.nth("auth");
    assert.equal(announced.code, "expiring");
    assert.ok(announced.expires_in > 20 && announced.expires_in <= 35, JSON.stringify(announced));

    const bad = await stock.ask("auth", { token: sign([kept], 600, {}, { secret: "x".repeat(40) }) });
    assert.equal(bad[0].error.code, "token_invalid");
    const [answer] = await stock.ask("auth", { token: sign([kept], 600) });
    assert.deepEqual([answer.channels, answer.left], [[kept], [dropped]]);
    assert.ok(answer.expires_in > 590, JSON.stringify(answer));
    assert.deepEqual((await stock.nth("auth", 2))[0], { code: "left", channels: [dropped] });
    await publishAll(server, dropped, ["left"]);
    await publishAll(server, kept, ["kept"]);
    await stock.kept("kept");
    assert.deepEqual([stock.messages, stock.of("disconnect")], [["kept"], []]);

    // What it did not hear of the channel that it left is not called recovered when it brings it again.
    stock.socket.auth = { token: sign([kept, dropped], 600) };
    stock.socket.io.engine.close();
    const [gap] = await stock.nth("gap");
    assert.deepEqual([gap.channel, gap.reason], [dropped, "no_cursor"]);
    await stock.message("left");
    assert.deepEqual(stock.recoveries, [false, false]);
  });

  it("leaves a channel that the next one does not open, and no restart makes whole what was missed there", async (t) => {
    const [kept, dropped] = [freshName(), freshName()];
    const stock = client(t, { token: sign([kept, dropped]) });
    await stock.settled();
    await stock.ask("auth", { token: sign([kept]) });
    await publishAll(server, dropped, ["missed"]);
    await publishAll(server, kept, ["heard"]);
    await stock.kept("heard");
    stock.socket.auth = { token: sign([kept, dropped]) };
    await server.crashAndRestart();
    await stock.message("missed");
    const gaps = [await stock.nth("gap", 1), await stock.nth("gap", 2)].map(([gap]) => gap);
    assert.deepEqual(gaps.find((gap) => gap.channel === dropped)?.reason, "no_cursor");
    assert.deepEqual(stock.recoveries, [false, false]);
  });

  it("has left nothing behind if the client comes back to where it stood before it left", async (t) => {
    const [kept, dropped] = [freshName(), freshName()];
    const stock = client(t, { token: sign([kept, dropped]) });
    // Live, so that no place is told behind that of the message.
    await stock.settled();
    await publishAll(server, kept, ["first"]);
    await stock.kept("first");
    await stock.ask("auth", { token: sign([kept]) });
    await publishAll(server, dropped, ["missed"]);
    stock.socket.auth = { token: sign([kept, dropped]) };
    stock.socket.io.engine.close();
    await stock.message("missed");
    assert.deepEqual([stock.recoveries, stock.of("gap")], [[false, true], []]);
  });

  // Together, because each of them takes the half minute that the grace does.
  it("closes the transport when none comes, and stock clients come back recovered with a new one", async (t) => {
    const [channel, seedChannel] = [freshName(), freshName()];
    let ttl = -6; // It has ended, but clocks may differ by ten seconds: the grace begins at once.
    const stock = client(t, (give) => give({ token: sign([channel], ttl) }));
    const seed = client(t, {});
    await seed.nth("connect");
    await seed.ask("join_channel", { token: sign([seedChannel], ttl) });
    await stock.settled();
    ttl = 600;
    await publishAll(server, channel, ["before"]);
    await stock.kept("before");
    const reasons = await Promise.all([stock, seed].map((one) => within(new Promise((resolve) => one.socket.on("disconnect", resolve)), "the end of the grace", 40_000)));
    for (const reason of reasons) assert.equal(reason, "transport close");
    assert.ok((await server.metric('channelapi_disconnects_total{reason="expired"}')) >= 2);
    await publishAll(server, channel, ["between"]);
    await stock.message("between");
    assert.deepEqual([stock.recoveries, stock.messages], [[false, true], ["before", "between"]]);
    assert.deepEqual(seed.of("auth"), [], "a client of the seed's door hears of nothing that it does not know");
  });
});

describe("a revocation", () => {
  const CLAIMS = {
    jti: (value) => ({ jti: value }),
    subject: (value) => ({ sub: value }),
  };
  for (const [kind, claims] of Object.entries(CLAIMS)) {
    it(`of a ${kind} puts its clients out, for good, also after a restart`, async (t) => {
      const [channel, value] = [freshName(), randomUUID()];
      const token = sign([channel], 600, { ...claims(value), iat: seconds() - 5 });
      const [stock, other] = [client(t, { token }), client(t, { token: sign([channel]) })];
      await Promise.all([stock.settled(), other.settled()]);
      const revocation = await revoke({ [kind]: value });
      assert.deepEqual(await stock.nth("disconnect"), ["io server disconnect"]);
      assert.equal(await refusal(t, { token }), "token_revoked");
      const wire = await Wire.open(server.url);
      t.after(() => wire.close());
      wire.send(`40${JSON.stringify({ token })}`);
      assert.match(await wire.next(), /^44.*"token_revoked"/);
      await publishAll(server, channel, ["still here"]);
      await other.kept("still here");
      await server.crashAndRestart();
      assert.equal(await refusal(t, { token }), "token_revoked");
      const forgiven = await server.v1("DELETE", `/revocations/${revocation.id}`);
      assert.deepEqual([forgiven.status, forgiven.json], [200, revocation]);
      await client(t, { token }).settled();
    });
  }

  it("is felt within a second", async (t) => {
    // A busy machine may hold one of them up, but not all.
    const times = [];
    for (let round = 0; round < 5 && !times.some((time) => time < 1_000); round += 1) {
      const [channel, jti] = [freshName(), randomUUID()];
      const stock = client(t, { token: sign([channel], 600, { jti }) });
      await stock.settled();
      const began = performance.now();
      await revoke({ jti });
      await stock.nth("disconnect");
      times.push(performance.now() - began);
    }
    assert.ok(times.some((time) => time < 1_000), `took ${times} ms`);
  });

  it("of a subject leaves what is issued later alone", async (t) => {
    const [channel, sub] = [freshName(), randomUUID()];
    const before = seconds() - 60;
    await revoke({ subject: sub, before });
    await client(t, { token: sign([channel], 600, { sub }) }).settled();
    await client(t, { token: sign([channel], 600, { sub, iat: before }) }).settled();
    assert.equal(await refusal(t, { token: sign([channel], 600, { sub, iat: before - 1 }) }), "token_revoked");
    assert.equal(await refusal(t, { token: sign([channel], 600, { sub, iat: undefined }) }), "token_revoked");
  });

  it("of a channel ends tokens and JWTs alike", async (t) => {
    const channel = freshName();
    const [token, jwt] = [await server.token(channel), sign([channel], 600, { iat: seconds() - 5 })];
    const all = [client(t, { token }), client(t, { token: jwt })];
    await Promise.all(all.map((one) => one.settled()));
    await revoke({ channel });
    for (const one of all) assert.deepEqual(await one.nth("disconnect"), ["io server disconnect"]);
    assert.equal(await refusal(t, { token }), "token_invalid");
    assert.equal(await refusal(t, { token: jwt }), "token_revoked");
  });

  it("of a channel counts for a JWT that names it whole, and for what another opens by a pattern", async (t) => {
    const [gone, stays] = [`p:${freshName()}`, `p:${freshName()}`];
    const old = { iat: seconds() - 5 };
    const named = (...channels) => sign(channels, 600, { iss: "patterns", aud: undefined, ...old }, { secret: `${SECRET} of another` });
    const stock = client(t, { token: named("p:*"), channels: [gone, stays] });
    const other = client(t, { token: named(gone, stays), channels: [stays] });
    await Promise.all([stock.settled(), other.settled()]);
    await revoke({ channel: gone });
    assert.deepEqual(await stock.nth("disconnect"), ["io server disconnect"]);
    await publishAll(server, stays, ["still here"]);
    await other.kept("still here");
    assert.equal(await refusal(t, { token: named(gone, stays), channels: [stays] }), "token_revoked");
    assert.equal(await refusal(t, { token: named("p:*"), channels: [gone] }), "token_revoked");
    await client(t, { token: named("p:*"), channels: [stays] }).settled();
  });

  it("of a channel changes nothing for who brings an old JWT in the place of a good one", async (t) => {
    const [gone, stays] = [`p:${freshName()}`, `p:${freshName()}`];
    await revoke({ channel: gone });
    await setTimeout(1_100);
    const stock = client(t, { token: byPatterns([gone, stays]) });
    await stock.settled();
    const old = sign(["p:*"], 600, { iss: "patterns", aud: undefined, iat: seconds() - 60 }, { secret: `${SECRET} of another` });
    const [answer] = await stock.ask("auth", { token: old });
    assert.equal(answer.error?.code, "token_revoked", JSON.stringify(answer));
    await publishAll(server, gone, ["still here"]);
    await stock.kept("still here");
  });

  it("ends event streams", async () => {
    const [channel, jti] = [freshName(), randomUUID()];
    const answer = await fetch(`${server.url}/v1/channels/${channel}/stream?token=${sign([channel], 600, { jti })}`);
    const before = await server.metric("channelapi_clients_revoked_total");
    await revoke({ jti });
    await within(answer.text(), "the end of the stream");
    assert.equal(await server.metric("channelapi_clients_revoked_total"), before + 1);
  });

  it("is listed in pages, and a disconnect takes nothing away", async (t) => {
    const [first, second] = [await revoke({ jti: randomUUID() }), await revoke({ subject: randomUUID(), issuer: "patterns" })];
    const page = await server.v1("GET", `/revocations?after=${Number(first.id) - 1}&limit=1`);
    assert.deepEqual([page.json.revocations, page.json.has_more], [[first], true]);
    const next = await server.v1("GET", `/revocations?after=${first.id}`);
    assert.deepEqual(next.json.revocations[0], second);
    assertProblem(await server.v1("DELETE", "/revocations/999999"), 404, "not_found");
    assertProblem(await server.v1("POST", "/revocations", {}), 400, "invalid_body");
    assertProblem(await server.v1("POST", "/revocations", { jti: randomUUID(), issuer: "nobody" }), 400, "invalid_body");

    const [channel, token] = [freshName(), sign([freshName()])];
    const jwt = sign([channel]);
    const [inside, outside] = [client(t, { token: jwt }), client(t, { token })];
    await Promise.all([inside.settled(), outside.settled()]);
    const answer = await server.v1("POST", `/channels/${channel}/disconnect`);
    assert.deepEqual([answer.status, answer.json], [200, { channel, disconnected: 1 }]);
    assert.deepEqual(await inside.nth("disconnect"), ["io server disconnect"]);
    await client(t, { token: jwt }).settled();
    assert.deepEqual(outside.of("disconnect"), []);
  });
});

describe("coming back", () => {
  it("with somebody else's pid and cursor gives nothing that the own JWT does not open", async (t) => {
    const [theirs, mine] = [freshName(), freshName()];
    // Two that come back by themselves would put each other out for ever.
    const victim = client(t, { token: sign([theirs]) }, { reconnection: false });
    await victim.settled();
    await publishAll(server, theirs, ["secret"]);
    await victim.kept("secret");
    const { _pid: pid, _lastOffset: offset } = victim.socket;
    assert.equal(typeof pid, "string");
    const thief = client(t, { token: sign([mine]), pid, offset: undefined, since: undefined });
    await thief.settled();
    await publishAll(server, theirs, ["another secret"]);
    await publishAll(server, mine, ["mine"]);
    await thief.kept("mine");
    assert.deepEqual(thief.messages, ["mine"]);
    const wire = await Wire.open(server.url);
    t.after(() => wire.close());
    wire.send(`40${JSON.stringify({ token: sign([theirs], -60), pid, offset })}`);
    assert.match(await wire.next(), /^44.*"token_expired"/);
  });
});
