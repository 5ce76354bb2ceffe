// Prepared statements and cursors: node speak_leases.mjs ENDPOINT TABLE. Prints what came back.

import { error, speak } from "./speaking.mjs";

await speak(async (client, table, told) => {
  const heard = [];
  const { lease, settings } = await client.acquire(30);
  told.settings = settings;
  const prepared = await client.request("prepare", 10, "select g, g * $1::int8 as n from generate_series(1, 5) g", lease);
  told.prepared = {
    parameters: prepared.parameters.map(([oid, name]) => [Number(oid), name]),
    columns: prepared.columns.map(([name, [, type]]) => [name, type]),
  };
  told.rows = await client.request("fetch", 10, "", [10n], 2, lease, prepared.statement);
  const described = await client.request("describe", 10, `insert into ${table} values ($1, $2)`);
  told.described = [described.parameters.map(([, name]) => name), described.columns];

  told.outside = (await error(client.request("open_cursor", 10, "select 1", [], lease))).errorClass;
  await client.execute("begin", [], lease);
  const cursor = await client.request("open_cursor", 10, "", [1n], lease, prepared.statement);
  told.cursor = [
    await client.request("fetch_cursor", 10, cursor, 2, lease),
    await client.request("move_cursor", 10, cursor, 1, lease),
    await client.request("fetch_cursor", 10, cursor, 9, lease),
  ];
  await client.tell(["close_cursor", lease, cursor], ["close_statement", lease, prepared.statement]);
  told.closed = [
    (await error(client.request("fetch_cursor", 10, cursor, 1, lease))).errorClass,
    (await error(client.request("fetch", 10, "", [1n], 0, lease, prepared.statement))).errorClass,
  ];
  await client.execute("rollback", [], lease);

  client.told = ([tag, , what]) => heard.push([tag, tag === "settings" ? what : what.message]);
  await client.tell(["watch", lease, true]);
  await client.execute("set timezone = 'Asia/Tokyo'", [], lease);
  await client.execute("do $$ begin raise notice 'look'; end $$", [], lease);
  told.heard = heard.splice(0);
  await client.request("reset", 10, lease);
  told.reset = await client.fetch("select current_setting('timezone') <> 'Asia/Tokyo' as new", [], lease);
  await client.release(lease);
});
