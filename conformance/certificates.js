// Certificates made for a test, in files of their own, and trusted by nobody but the test.

import { randomUUID } from "node:crypto";
import { mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import selfsigned from "selfsigned";

/** A pair of files with a certificate for localhost. `ca` is what a client must trust. */
export class Certificate {
  static async make({ keyType = "ec" } = {}) {
    const made = new Certificate();
    made.keyType = keyType;
    made.directory = await mkdtemp(join(tmpdir(), "channelapi-certificate-"));
    made.cert = join(made.directory, "cert.pem");
    made.key = join(made.directory, "key.pem");
    await made.renew();
    return made;
  }

  get args() {
    return ["--tls-cert", this.cert, "--tls-key", this.key, "--tls-reload-interval", "1h"];
  }

  /** Another certificate, with another key, in the same files; each file is replaced as a whole. */
  async renew() {
    // A name of its own, by which a client that trusts several can tell them apart.
    const name = `localhost ${randomUUID()}`;
    const { cert, private: key } = await selfsigned.generate([{ name: "commonName", value: name }], {
      keyType: this.keyType,
      algorithm: "sha256",
      extensions: [
        { name: "basicConstraints", cA: false },
        { name: "keyUsage", digitalSignature: true, keyEncipherment: this.keyType === "rsa", critical: true },
        { name: "extKeyUsage", serverAuth: true },
        { name: "subjectAltName", altNames: [{ type: 2, value: "localhost" }, { type: 7, ip: "127.0.0.1" }] },
      ],
    });
    this.ca = cert;
    await replace(this.key, key);
    await replace(this.cert, cert);
  }

  remove() {
    return rm(this.directory, { recursive: true, force: true });
  }
}

async function replace(path, text) {
  await writeFile(`${path}.new`, text, { mode: 0o600 });
  await rename(`${path}.new`, path);
}
