// How the peers are started: `--address A --port N --auth-key K`, as channelapi is.

import { parseArgs } from "node:util";

const string = { type: "string" };

/** The options of the command line. */
export function launchOptions() {
  const { values } = parseArgs({ options: { address: string, port: string, "auth-key": string } });
  return { address: values.address, port: Number(values.port), authKey: values["auth-key"] };
}

/** Ends this process when the benchmark that started it has ended, whatever ended that. */
export function endWithParent() {
  const parent = process.ppid;
  setInterval(() => {
    if (process.ppid !== parent) process.exit();
  }, 1000).unref();
}
