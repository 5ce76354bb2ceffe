// What the scripts share: a client of ENDPOINT, and one JSON object printed at the end.

import { Client, Failed } from "./client.mjs";

export async function speak(script) {
  const [endpoint, table] = process.argv.slice(2);
  const client = await Client.connect(endpoint, "node client");
  const told = {};
  await script(client, table, told);
  await client.close();
  console.log(JSON.stringify(told, plain));
}

export async function error(promise) {
  try {
    await promise;
  } catch (failed) {
    if (failed instanceof Failed) return failed;
    throw failed;
  }
  throw new Error("it was expected to fail");
}

function plain(_, value) {
  if (typeof value === "bigint") return `${value}n`;
  if (value?.type === "Buffer") return Buffer.from(value.data).toString("hex");
  return value;
}
