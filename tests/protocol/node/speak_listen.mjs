// Listening, without a lease and with one: node speak_listen.mjs ENDPOINT TABLE. Prints what came back.

import { speak } from "./speaking.mjs";

await speak(async (client, table, told) => {
  const heard = [];
  client.told = ([tag, channel, payload, , lease]) => heard.push([tag, channel, payload, lease != null]);
  const until = async (count) => {
    while (heard.length < count) await new Promise((resolve) => setTimeout(resolve, 5));
    return heard.splice(0);
  };
  await client.request("listen", 10, [table, "Grüße, “you”"]);
  const { lease } = await client.acquire(30);
  for (const n of [1, 2, 3]) await client.fetch("select pg_notify($1, $2)", [table, `${n}`], lease);
  await client.execute('notify "Grüße, “you”"', [], lease);
  told.heard = await until(4);
  await client.request("unlisten", 10, [table]);
  await client.fetch("select pg_notify($1, 'unheard')", [table], lease);
  await client.request("listen", 10, [table], lease);
  await client.fetch("select pg_notify($1, 'own')", [table], lease);
  told.own = await until(1);
  await client.release(lease);
});
