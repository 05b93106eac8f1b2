// A counter on Deno KV: one atomic operation keeps the key and adds one, unless the key is there already.
// Arguments: the port, and the file for the data.
const [port, file] = Deno.args;
const NAME = "hello-world-button";
const COUNTER = ["counter", NAME];
const DAY = 86400e3; // ms

const kv = await Deno.openKv(file);

async function read(): Promise<number> {
  const { value } = await kv.get<Deno.KvU64>(COUNTER);
  return Number(value?.value ?? 0);
}

async function click(key: string): Promise<number> {
  await kv.atomic()
    .check({ key: ["click", key], versionstamp: null })
    .set(["click", key], 1, { expireIn: DAY })
    .sum(COUNTER, 1n)
    .commit();
  return await read();
}

async function check() {
  let keys = 0;
  for await (const _ of kv.list({ prefix: ["click"] })) keys++;
  return { keys, value: await read() };
}

Deno.serve({ hostname: "127.0.0.1", port: Number(port), onListen() {} }, async (request) => {
  if (new URL(request.url).pathname === "/check") return Response.json(await check());
  const value = await click(request.headers.get("Idempotency-Key") ?? crypto.randomUUID());
  return Response.json({ name: NAME, value });
});
