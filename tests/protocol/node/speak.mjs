// What the test has the client do: node speak.mjs ENDPOINT TABLE. Prints one JSON object: what came back.

import { ExtData } from "@msgpack/msgpack";
import { error, speak } from "./speaking.mjs";

await speak(async (client, table, told) => {
  told.welcome = { version: client.version, supervisor: client.supervisor, heartbeat: client.heartbeatSeconds };

  // Values of several kinds, both ways; the second time the shape is known.
  const sql = "select $1::int as i, $2::text as t, null::bool as n, $3::numeric as d, $4::uuid as u, $5::int8 as b, $6::int[] as a";
  const uuid = new ExtData(8, Uint8Array.from({ length: 16 }, (_, at) => at));
  const args = [42, "Grüße", new ExtData(2, new TextEncoder().encode("1.10")), uuid, 2n ** 62n, [1, null, 3]];
  told.values = await client.fetch(sql, args);
  told.again = await client.fetch(sql, args);
  told.time = await client.fetch("select '2024-05-01 12:30:00+00'::timestamptz as at, '2024-02-29'::date as day");
  told.none = await client.fetch(`select * from ${table}`);

  // A hundred requests in one frame, one of which fails.
  const numbers = Array.from({ length: 100 }, (_, at) => at);
  const replies = await client.requests(
    ...numbers.map((n) => ["fetch", 10, "select 10 / ($1::int - 50) as q", [n]]),
  );
  const outcomes = await Promise.allSettled(replies);
  told.many = {
    fulfilled: outcomes.filter(({ status }) => status === "fulfilled").length,
    first: outcomes[0].value,
    failed: outcomes[50].reason.errorClass,
    sqlstate: outcomes[50].reason.fields.sqlstate,
  };

  // A batch: all or nothing.
  told.batch = await client.request("batch", 10, [
    [`insert into ${table} values ($1, $2)`, [1, "one"]],
    [`select name from ${table}`, []],
  ]);
  const undone = await error(
    client.request("batch", 10, [
      [`insert into ${table} values ($1, $2)`, [2, "two"]],
      [`insert into ${table} values ($1, $2)`, [1, "again"]],
    ]),
  );
  told.undone = { errorClass: undone.errorClass, index: undone.index };

  // A lease: one transaction that is committed, one that is not.
  const { lease, ttl, pid } = await client.acquire(30);
  told.lease = { ttl, same: (await client.fetch("select pg_backend_pid() as pid", [], lease))[0].pid === pid };
  told.tags = [
    await client.execute("begin", [], lease),
    await client.execute(`insert into ${table} values ($1, $2)`, [3, "three"], lease),
    await client.execute("commit", [], lease),
    await client.execute("begin", [], lease),
    await client.execute(`insert into ${table} values (4, 'four')`, [], lease),
  ];
  const inside = await error(client.execute("select 1 / 0", [], lease));
  told.inside = { errorClass: inside.errorClass, inTransaction: inside.inTransaction };
  const [first, second] = await client.requests(
    ["execute", 10, "rollback", [], lease],
    ["execute", 10, "select 1", [], lease],
  );
  told.busy = [await first, (await error(second)).errorClass];
  await client.execute(`begin; insert into ${table} values (5, 'five')`, [], lease);
  await client.release(lease);
  told.released = (await error(client.fetch("select 1", [], lease))).code;

  const status = await client.request("status", 10);
  told.status = { labels: status.workers.map(({ label }) => label), leased: status.leased };
});
