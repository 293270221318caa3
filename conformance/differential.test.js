// Our parsers against those of the reference, on packets that nobody has thought of: what one takes the other takes, and
// reads the same in it. Where ours is stricter, a rule below says so; there is no other difference.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import { before, describe, it } from "node:test";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import { decodePacket } from "engine.io-parser";
import { Decoder } from "socket.io-parser";

const PROGRAM = process.env.CHANNELAPI_PACKETS ?? fileURLToPath(new URL("../target/release/examples/packets", import.meta.url));
// Packets of each kind.
const COUNT = Number(process.env.DIFFERENTIAL_COUNT ?? 20_000);
// Other choices in every run. The name of the tests tells the seed, with which they can be made again.
const SEED = Number(process.env.DIFFERENTIAL_SEED ?? randomInt(2 ** 32));
const DEPTH_MAX = 32;

/** SplitMix32: small, fast, and good enough to choose. */
function dice(seed) {
  let state = seed >>> 0;
  return (bound) => {
    state = (state + 0x9e3779b9) >>> 0;
    let mixed = state ^ (state >>> 16);
    mixed = Math.imul(mixed, 0x21f0aaad);
    mixed ^= mixed >>> 15;
    mixed = Math.imul(mixed, 0x735a2d97);
    return ((mixed ^ (mixed >>> 15)) >>> 0) % bound;
  };
}

const SOCKET_SEEDS = [
  "0",
  '0{"token":"abc"}',
  "0/admin,",
  '0/admin,{"a":1}',
  "1",
  "1/admin,",
  '2["join_channel",{"token":"abc"}]',
  '212["ack",{"channel":"c","offset":7}]',
  '2/admin,7["x",null,true,1.5e3,"\\u00e9"]',
  '2[5,"a"]',
  '2["connect"]',
  "3456[]",
  '3/admin,1[{"a":[1,2]}]',
  '4{"message":"no"}',
  '51-["x",{"_placeholder":true,"num":0}]',
  '52-/admin,9["x",{"_placeholder":true,"num":1},{"a":[{"_placeholder":true,"num":0}]}]',
  '61-3[{"_placeholder":true,"num":0}]',
  '510-["x",{"_placeholder":false,"num":99}]',
];
const ENGINE_SEEDS = ["0{}", "1", "2probe", "2", "3", "3probe", "4", "4hello", '42["x"]', "4é頻", "5", "6", "bAQIDBA==", "bAQIDBA", "b"];
const PIECES = ["0", "1", "9", "-", "/", ",", "[", "]", "{", "}", '"', ":", " ", "\t", "null", "1e3", "-0", "\\u0000", "_placeholder", "é", "\u2028", "=", "+", "b"];

/** A packet made of others. */
function mutate(seeds, pick) {
  let text = seeds[pick(seeds.length)];
  for (let changes = pick(4); changes > 0; changes--) {
    const at = pick(text.length + 1);
    const other = seeds[pick(seeds.length)];
    text = [
      () => text.slice(0, at) + text.slice(at + 1 + pick(3)),
      () => text.slice(0, at) + PIECES[pick(PIECES.length)] + text.slice(at),
      () => text.slice(0, at) + PIECES[pick(PIECES.length)] + text.slice(at + 1),
      () => text.slice(0, at) + other.slice(pick(other.length + 1)),
      () => text.slice(0, at) + text.slice(pick(at + 1), at) + text.slice(at),
    ][pick(5)]();
  }
  // The wire carries UTF-8, which has no half characters.
  return text.toWellFormed();
}

/** Both parsers run over the same packets: `[text, ours, theirs]`, with `null` for what is refused. */
async function compared(letter, texts, theirs) {
  const program = spawn(PROGRAM, { stdio: ["pipe", "pipe", "inherit"] });
  program.stdin.end(texts.map((text) => letter + JSON.stringify(text) + "\n").join(""));
  const ours = [];
  for await (const line of createInterface({ input: program.stdout })) ours.push(JSON.parse(line));
  assert.equal(ours.length, texts.length, "one answer for each packet");
  return texts.map((text, index) => [text, ours[index], theirs(text)]);
}

function referenceSocket(text) {
  const decoder = new Decoder();
  let decoded;
  decoder.on("decoded", (packet) => (decoded = packet));
  try {
    decoder.add(text);
    const attachments = decoder.reconstructor?.reconPack.attachments ?? 0;
    const header = decoder.reconstructor?.reconPack ?? decoded;
    const data = structuredClone(header.data ?? null);
    // Placeholders are looked at when the last attachment is there.
    for (let index = 0; index < attachments; index++) decoder.add(Buffer.from([index]));
    return { kind: header.type, attachments, namespace: header.nsp, ack: header.id ?? null, data };
  } catch {
    return null;
  }
}

function depthOf(value) {
  return typeof value === "object" && value !== null ? 1 + Math.max(0, ...Object.values(value).map(depthOf)) : 0;
}

const WHITE_SPACE = "nothing, or white space, for a digit";

/** Why ours refuses what the reference takes. Each is something that no client sends. */
const STRICTER = {
  "a server's packet": (packet) => packet.kind === 4,
  "no data": (packet) => packet.data === null && packet.kind >= 2,
  "an answer to nothing": (packet) => packet.kind === 3 && packet.ack === null,
  "a number that JavaScript cannot count to": (packet) => packet.ack > Number.MAX_SAFE_INTEGER,
  "nested without end": (packet) => depthOf(packet.data) > DEPTH_MAX,
  [WHITE_SPACE]: (_, text) => text === "" || /^[0-6]?(\d*-)?(\/[^,]*,)?[^[{"]*\s/.test(text),
  "a count that is not written in digits": (_, text) => /^[56][^-]*[^0-9-]/.test(text) || /^[56][^0-9]/.test(text),
  "half of a placeholder's number": (_, text) => /"num":\s*[0-9]*[.eE]/.test(text) || /"num":-0/.test(text),
  "half of a character in a name": (_, text) => /\\u[dD][89a-fA-F]/.test(text),
};

/** Why ours takes what the reference refuses. */
const MILDER = {
  "no attachments is a number of attachments": (packet, text) => packet.attachments === 0 && /^[56]0+-/.test(text),
};

function explained(rules, packet, text) {
  return Object.values(rules).some((applies) => applies(packet, text));
}

describe(`the reference's parsers and ours (DIFFERENTIAL_SEED=${SEED})`, () => {
  let pick;
  before(() => (pick = dice(SEED)));

  it("read the same in Socket.IO packets", async (t) => {
    const texts = [...SOCKET_SEEDS, ...Array.from({ length: COUNT }, () => mutate(SOCKET_SEEDS, pick))];
    let taken = 0;
    for (const [text, ours, theirs] of await compared("S", texts, referenceSocket)) {
      const shown = JSON.stringify(text);
      if (ours && theirs) {
        taken += 1;
        // The same number can stand in JSON in two ways; both were parsed by the same parser. White space is 0 to JavaScript.
        if (!STRICTER[WHITE_SPACE](theirs, text)) assert.deepEqual(ours, theirs, shown);
      } else if (theirs) {
        assert.ok(explained(STRICTER, theirs, text), `ours refuses ${shown}, read as ${JSON.stringify(theirs)}`);
      } else if (ours) {
        assert.ok(explained(MILDER, ours, text), `the reference refuses ${shown}, read as ${JSON.stringify(ours)}`);
      }
    }
    t.diagnostic(`${taken} of ${texts.length} packets were taken by both`);
    assert.ok(taken > texts.length / 20, "hardly any packet was one");
  });

  it("read the same in Engine.IO packets", async (t) => {
    const texts = [...ENGINE_SEEDS, ...Array.from({ length: COUNT }, () => mutate(ENGINE_SEEDS, pick))];
    const reference = (text) => {
      const { type, data } = decodePacket(text);
      if (type === "error") return null;
      return Buffer.isBuffer(data) ? { kind: "binary", data: `[${[...data].join(", ")}]` } : { kind: type, data: data ?? "" };
    };
    let taken = 0;
    for (const [text, ours, theirs] of await compared("E", texts, reference)) {
      const shown = JSON.stringify(text);
      const isStricter =
        text.startsWith("0") || // Only servers open.
        /^[156]./s.test(text) || // What is only a kind carries nothing.
        (text.startsWith("b") && !/^b([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2,3}={0,2})?$/.test(text)); // Node.js leaves out what is no base64.
      if (ours && theirs) {
        taken += 1;
        if (!text.startsWith("b") || !isStricter) assert.deepEqual(ours, theirs, shown);
      } else if (theirs) {
        assert.ok(isStricter || isLooseBase64(text), `ours refuses ${shown}`);
      } else {
        assert.equal(ours, null, `the reference refuses ${shown}`);
      }
    }
    t.diagnostic(`${taken} of ${texts.length} packets were taken by both`);
    assert.ok(taken > texts.length / 4, "hardly any packet was one");
  });
});

/** Base64 whose last character says more than there is room for, or whose padding is wrong. */
function isLooseBase64(text) {
  return text.startsWith("b") && Buffer.from(text.slice(1), "base64").toString("base64").replace(/=+$/, "") !== text.slice(1);
}
