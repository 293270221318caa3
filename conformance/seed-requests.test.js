// The seed contract, byte for byte: tokens, keys and refusals, as every existing backend knows them. None of it ever changes.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { NO_MESSAGE, REFUSAL, TOKEN_ANSWER, joined } from "./seed.js";
import { Server } from "./server.js";
import { freshName } from "./stock.js";

let server;
before(async () => (server = await Server.start()));
after(() => server?.stop());

const subscriber = (t, ...channels) => joined(t, server, channels);

describe("POST /channel/{channel}", () => {
  it("answers a token in exactly the known shape", async () => {
    const answer = await server.post(`/channel/${freshName()}`);
    assert.equal(answer.status, 200);
    assert.match(answer.body, TOKEN_ANSWER);
    assert.match(answer.headers["content-type"], /^application\/json/);
  });

  it("answers the same token for the same channel, another for another", async () => {
    const [mine, other] = [freshName(), freshName()];
    const first = await server.token(mine);
    assert.equal(await server.token(mine), first);
    assert.notEqual(await server.token(other), first);
  });

  it("takes the key raw and as Bearer", async () => {
    const path = `/channel/${freshName()}`;
    const raw = await server.post(path, "", { authorization: server.key });
    const bearer = await server.post(path, "", { authorization: `Bearer ${server.key}` });
    assert.equal(raw.status, 200);
    assert.deepEqual([bearer.status, bearer.body], [raw.status, raw.body]);
  });

  it("takes any body, since it needs none", async () => {
    for (const body of ["", "{}", "not json", '{"message":1}']) {
      assert.equal((await server.post(`/channel/${freshName()}`, body)).status, 200, body);
    }
  });

  const sameChannel = [
    ["percent-encoded slash", "/channel/a%2Fb-1", "/channel/a/b-1"],
    ["percent-encoded letter", "/channel/%61bc-2", "/channel/abc-2"],
    ["lower-case hex", "/channel/a%2fb-3", "/channel/a%2Fb-3"],
    ["unicode", "/channel/caf%C3%A9-4", `/channel/caf%c3%a9-4`],
  ];
  for (const [what, one, another] of sameChannel) {
    it(`decodes the name: ${what}`, async () => {
      const [first, second] = [await server.post(one), await server.post(another)];
      assert.match(first.body, TOKEN_ANSWER);
      assert.equal(second.body, first.body);
    });
  }

  it("decodes once, and leaves a plus sign alone", async () => {
    const names = ["/channel/x%252Fy", "/channel/x%2Fy", "/channel/x+y", "/channel/x%20y", "/channel/x%2By"];
    const tokens = await Promise.all(names.map(async (path) => (await server.post(path)).body));
    assert.equal(tokens[2], tokens[4], "+ and %2B are the same name");
    assert.equal(new Set(tokens).size, 4, "the rest are all different names");
  });
});

describe("keys", () => {
  const wrongHeaders = {
    "no key": () => ({}),
    "an empty key": () => ({ authorization: "" }),
    "a wrong key": () => ({ authorization: "wrong" }),
    "a wrong Bearer key": () => ({ authorization: "Bearer wrong" }),
    "Bearer and nothing": () => ({ authorization: "Bearer " }),
    "a prefix of the key": () => ({ authorization: server.key.slice(0, -1) }),
    "the key and more": () => ({ authorization: `${server.key}x` }),
    "the key in the wrong case": () => ({ authorization: server.key.replace(/[a-zA-Z]/g, (c) => (c < "a" ? c.toLowerCase() : c.toUpperCase())) }),
  };
  for (const [what, headers] of Object.entries(wrongHeaders)) {
    it(`refuses ${what} with 403 on both endpoints`, async () => {
      for (const endpoint of ["channel", "message"]) {
        const answer = await server.post(`/${endpoint}/${freshName()}`, '{"message": 1}', headers());
        assert.equal(answer.status, 403, endpoint);
        assert.match(answer.body, REFUSAL);
      }
    });
  }

  it("delivers nothing that came with a wrong key", async (t) => {
    const channel = freshName();
    const wire = await subscriber(t, channel);
    await server.post(`/message/${channel}`, '{"message": "forged"}', { authorization: "wrong" });
    await server.publish(channel, '"genuine"');
    await wire.expect('42["message","genuine"]');
  });
});

describe("unusable requests", () => {
  it("answers 400 for an empty channel", async () => {
    for (const endpoint of ["channel", "message"]) {
      const answer = await server.post(`/${endpoint}/`, '{"message": 1}');
      assert.equal(answer.status, 400, endpoint);
      assert.match(answer.body, REFUSAL);
    }
  });

  it("answers 400 for a name with characters that cannot be seen, or that is not text", async () => {
    for (const name of ["a%00b", "a%0Ab", "a%7Fb", "%E2%80%A8", "%E2%80%AEb", "%EF%BB%BFa", "%FF", "%ED%A0%80"]) {
      for (const endpoint of ["channel", "message"]) {
        const answer = await server.post(`/${endpoint}/${name}`, '{"message": 1}');
        assert.equal(answer.status, 400, `${endpoint} ${name}`);
        assert.match(answer.body, REFUSAL);
      }
    }
  });

  const bodies = ["", " ", "{}", "[]", "null", "7", '"message"', '["message"]', "{", '{"message"}', '{"message": }', '{"message": 1',
    '{"message": 1} x', "{'message': 1}", '{"Message": 1}', '{"data": {"message": 1}}', "message=1", '{"message": 01}', '{"message": "a\nb"}'];
  for (const body of bodies) {
    it(`answers 400 with the known text for the body ${JSON.stringify(body)}`, async () => {
      const answer = await server.post(`/message/${freshName()}`, body);
      assert.deepEqual([answer.status, answer.body], [400, NO_MESSAGE]);
    });
  }

  it("answers 400 with the known text for a body that is not UTF-8", async () => {
    const body = Buffer.concat([Buffer.from('{"message": "'), Buffer.from([0xff, 0xfe]), Buffer.from('"}')]);
    const answer = await server.post(`/message/${freshName()}`, body);
    assert.deepEqual([answer.status, answer.body], [400, NO_MESSAGE]);
  });
});

describe("GET /", () => {
  it("is a static page, with or without a key", async () => {
    for (const headers of [{}, { authorization: server.key }]) {
      const answer = await fetch(server.url, { headers });
      assert.equal(answer.status, 200);
      assert.match(answer.headers.get("content-type"), /^text\/html/);
      assert.match(await answer.text(), /<html|<!doctype html/i);
    }
  });

  it("reaches nobody", async (t) => {
    const channel = freshName();
    const wire = await subscriber(t, channel);
    await (await fetch(server.url)).text();
    await server.publish(channel, 1);
    await wire.expect('42["message",1]');
  });
});

describe("tokens", () => {
  it("survive a restart and a kill -9", async (t) => {
    const channels = [freshName(), freshName(), `${freshName()}/é`];
    const tokens = await Promise.all(channels.map((channel) => server.token(channel)));
    const survived = async () => assert.deepEqual(await Promise.all(channels.map((channel) => server.token(channel))), tokens);

    await server.restart();
    await survived();

    const last = freshName();
    const issuedLast = await server.token(last);
    await server.crashAndRestart();
    await survived();
    assert.equal(await server.token(last), issuedLast, "a token is on disk before it is answered");

    const wire = await subscriber(t, channels[0]);
    await server.publish(channels[0], 1);
    await wire.expect('42["message",1]');
  });
});
