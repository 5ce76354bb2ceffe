// COPY, out and in, with little credit: node speak_copy.mjs ENDPOINT TABLE. Prints what came back.

import { encode } from "@msgpack/msgpack";
import { error, speak } from "./speaking.mjs";

await speak(async (client, table, told) => {
  const { lease } = await client.acquire(30);
  async function* lines(count) {
    for (let n = 1; n <= count; n++) yield Buffer.from(`${n}\tname ${n}\n`);
  }
  told.in = await client.copyIn(lease, "copy_to_table", table, {}, lines(2000));

  let size = 0;
  let last = "";
  const sink = (data) => ((size += data.length), (last = Buffer.from(data).toString()));
  told.out = await client.copyOut(lease, "copy_from_query", `select * from ${table} where id > $1`, [1000], {}, 100, sink);
  told.data = [size, last.split("\n").at(-2)];
  told.csv = [];
  const csv = { format: "csv", header: true, columns: ["name"] };
  await client.copyOut(lease, "copy_from_table", table, [], csv, 1, (data) => told.csv.push(...Buffer.from(data).toString().split("\n", 2)));
  told.csv = told.csv.slice(0, 2);

  const records = [encode([[3001, "three"], [3002, null]])];
  told.records = await client.copyIn(lease, "copy_records_to_table", table, {}, records);

  async function* failing() {
    yield Buffer.from("4001\tx\n");
    throw new Error("the disk is full");
  }
  const mine = await error(client.copyIn(lease, "copy_to_table", table, {}, failing()));
  told.mine = [mine.code, mine.message.includes("the disk is full")];
  const theirs = await error(client.copyIn(lease, "copy_to_table", table, {}, [Buffer.from("no number\tx\n")]));
  told.theirs = [theirs.errorClass, theirs.fields.sqlstate];
  told.after = await client.fetch(`select count(*)::int as n, max(id) as last from ${table}`, [], lease);
  await client.release(lease);
});
