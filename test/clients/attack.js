// In place of what README.md's example tries: see test_clients.py.
const given = JSON.parse(process.env.TC_GIVEN);
const told = {};

async function code(promise) {
  return promise.then(() => null, (error) => error.code);
}

async function main() {
  told.statuses = [];
  for (const [hex, signature] of given.messages) told.statuses.push(await receive(Buffer.from(hex, 'hex'), signature));
  const see = async (client) => (await client.query('SELECT DISTINCT company_id::int FROM notes')).rows.map((row) => row.company_id);
  told.seen = [await inCompany(given.tokens[0], see), await inCompany(given.tokens[1], see)];
  told.no_begin = await code(app.query('SELECT tenantcall.enter_token($1)', [given.tokens[0]]));
  told.bad_token = await code(inCompany(given.tokens[0] + 'x', see));
  told.in_the_middle = await code(inCompany(given.tokens[0], async (client) => {
    await client.query("INSERT INTO notes (body) VALUES ('half')");
    await client.query('SELECT 1 / 0');
  }));
  told.second_company = await code(inCompany(given.tokens[0], (client) =>
    client.query('SELECT tenantcall.enter_token($1)', [given.tokens[1]])));
  told.without = (await app.query('SELECT count(*)::int AS n FROM notes')).rows[0].n;
  // many at once over few connections, some of which fail
  const jobs = [...Array(40).keys()].map((n) => inCompany(given.tokens[n % 2], async (client) => {
    if (n % 5 === 0) throw new Error('not today');
    const { rows: [row] } = await client.query('SELECT min(company_id)::int AS a, max(company_id)::int AS b FROM notes, pg_sleep(0.002)');
    return row.a === given.companies[n % 2] && row.b === row.a;
  }));
  const done = await Promise.allSettled(jobs);
  told.right = done.filter((job) => job.value === true).length;
  told.failed = done.filter((job) => job.status === 'rejected').length;
  told.bigint = (await inCompany(given.tokens[0], (client) => client.query(
    'SELECT 9007199254740993::bigint AS big, \'{"a": [1]}\'::jsonb AS doc, \'\\x00ff\'::bytea AS raw'))).rows
    .map((row) => [row.big, row.doc.a[0], Buffer.isBuffer(row.raw) && row.raw.toString('hex')])[0];
  console.log(JSON.stringify(told));
  await Promise.all([gateway.end(), app.end()]);
}

main();
