// How /v1 says no: RFC 9457 with our members.

import assert from "node:assert/strict";

/** Checks the whole of a refusal. `code` may be left out where only the status is promised. */
export function assertProblem(answer, status, code) {
  assert.equal(answer.status, status, answer.body);
  assert.equal(answer.headers["content-type"], "application/problem+json");
  const { type, title, status: told, detail, code: given, hint, request_id, ...others } = answer.json;
  assert.match(given, /^[a-z][a-z_]*$/);
  if (code !== undefined) assert.equal(given, code, answer.body);
  assert.equal(type, `urn:channelapi:problem:${given}`);
  assert.equal(told, status);
  for (const text of [title, detail, hint]) assert.ok(typeof text === "string" && text.length > 0, `title, detail and hint are texts: ${answer.body}`);
  assert.equal(request_id, answer.headers["x-request-id"]);
  return others;
}

export const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
export const ID = /^[0-9a-f]{16}-[1-9]\d*-[0-9a-f]{8}$/;
