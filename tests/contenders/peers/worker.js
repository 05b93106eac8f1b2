// A counter as a SQLite Durable Object: every click goes to one object, which counts each key once.
import { DurableObject } from "cloudflare:workers";

const NAME = "hello-world-button";
const SCHEMA = `
  create table if not exists click (key text primary key) without rowid;
  create table if not exists counter (name text primary key, value integer);`;
const KEEP = "insert into click values (?) on conflict do nothing returning key";
const COUNT = `
  insert into counter values (?, ?)
  on conflict (name) do update set value = value + excluded.value returning value`;

export class Counter extends DurableObject {
  constructor(state, env) {
    super(state, env);
    this.sql = state.storage.sql;
    this.sql.exec(SCHEMA);
  }

  fetch(request) {
    if (new URL(request.url).pathname === "/check") return Response.json(this.check());
    const key = request.headers.get("Idempotency-Key") ?? crypto.randomUUID();
    const value = this.ctx.storage.transactionSync(() => {
      const added = this.sql.exec(KEEP, key).toArray().length;
      return this.sql.exec(COUNT, NAME, added).one().value;
    });
    return Response.json({ name: NAME, value });
  }

  check() {
    const { keys } = this.sql.exec("select count(*) as keys from click").one();
    const { value } = this.sql.exec("select coalesce(sum(value), 0) as value from counter").one();
    return { keys, value };
  }
}

export default {
  fetch(request, env) {
    return env.COUNTER.get(env.COUNTER.idFromName(NAME)).fetch(request);
  },
};
