// receiver: takes in what Retell AI sends, and hands it over to PostgreSQL.  One file, node-postgres
// and Node's own http; the least that is fit for use behind a proxy that does TLS.
//
//   POST /retell/inbound    the phone rings: the number's inbound webhook
//   POST /retell/events     the account's webhook
//   POST /retell/function   custom functions: see FUNCTIONS
//
// PGHOST, PGUSER (a role with grant_gateway), PGDATABASE ... say where the database is; RECEIVER_PORT
// and RECEIVER_HOST where to listen; RECEIVER_MAX_BODY, in bytes, what is taken at most;
// RECEIVER_PATIENCE, in ms, how long the database may take for one statement.
//
// The body goes to the database as the bytes that arrived, since the signature covers these.  What
// the platform should send again is answered by 5xx: the database is down, or slow.  Bodies hold what
// people said on the phone: they are never logged, nor are errors, whose texts may quote them.
'use strict';
const http = require('http');
const { Pool } = require('pg');

const MAX_BODY = Number(process.env.RECEIVER_MAX_BODY || 4 * 1024 * 1024);
const PATIENCE = Number(process.env.RECEIVER_PATIENCE || 8000); // the platform waits 10 s for webhooks

const pool = new Pool({
  max: 10,
  connectionTimeoutMillis: PATIENCE,
  query_timeout: PATIENCE, // ours, if the server is gone; then the connection is closed
  application_name: 'retell receiver',
});
pool.on('error', (error) => log('database', error.code)); // of an idle connection: the pool drops it

/** What the voice agent can ask for: (client, args, call) => answer, in a transaction of the company. */
const FUNCTIONS = {
  async opening_hours(client) {
    const { rows } = await client.query(
      'SELECT weekday, opens, closes FROM telephony.opening_hours ORDER BY weekday, opens');
    return { opening_hours: rows };
  },
};

/** One line to the log: never content. */
function log(...words) {
  console.log(new Date().toISOString(), ...words.map((word) => String(word)));
}

/** One statement in autocommit mode; its one row. */
async function ask(name, body, signature) {
  const { rows } = await pool.query(
    `SELECT * FROM tenantcall.${name}($1::bytea, $2)`, [body, signature]);
  return rows[0];
}

/** The phone rings: 401, or what Retell is to do with the call. */
async function inbound(body, signature) {
  const { outcome, answer } = await ask('answer_inbound_call', body, signature);
  return { outcome, status: outcome === 'rejected' ? 401 : 200, answer };
}

/** An event: 401, or 204, for it is applied, known already, or kept in the quarantine. */
async function event(body, signature) {
  const { outcome, reason } = await ask('ingest_retell', body, signature);
  return { outcome, reason, status: outcome === 'rejected' ? 401 : 204 };
}

/** A function call: accepted, run in a transaction of its own, and its answer kept for a retry. */
async function call(body, signature) {
  const accepted = await ask('accept_function_call', body, signature);
  const { outcome, reason } = accepted;
  switch (outcome) {
    case 'run': {
      const answer = await run(accepted);
      await pool.query('SELECT tenantcall.finish_function_call($1, $2, $3)',
        [accepted.company_id, accepted.idempotency_key, JSON.stringify(answer)]);
      return { outcome, status: 200, answer };
    }
    case 'replay':
      return { outcome, status: 200, answer: accepted.answer };
    case 'busy': // running elsewhere: the platform asks again, and gets its answer
      return { outcome, status: 503, headers: { 'Retry-After': '1' } };
    case 'limited':
      return { outcome, reason, status: 429, headers: accepted.headers || {} };
    case 'rejected':
      return { outcome, reason, status: 401 };
    default: // suspended, unknown: said to the caller by the agent
      return { outcome, reason, status: 200, answer: { error: 'not_available' } };
  }
}

/** Runs a function within the company that the call belongs to. */
async function run({ company_id, branch_id, name, args }) {
  if (!Object.hasOwn(FUNCTIONS, name)) return { error: 'unknown_function' };
  const client = await pool.connect();
  try {
    await client.query('BEGIN');
    await client.query('SELECT tenantcall.enter($1, $2)', [company_id, branch_id]);
    const answer = await FUNCTIONS[name](client, args);
    await client.query('COMMIT');
    client.release();
    return answer;
  } catch (error) {
    client.release(error); // closes the connection, which rolls back
    throw error;
  }
}

const ROUTES = { '/retell/inbound': inbound, '/retell/events': event, '/retell/function': call };

/** The bytes of a request's body; null if they are too many, which are read but not kept. */
function read(request) {
  return new Promise((resolve, reject) => {
    let chunks = [];
    let length = 0;
    request.on('data', (chunk) => {
      length += chunk.length;
      if (length <= MAX_BODY) chunks.push(chunk);
      else chunks = [];
    });
    request.on('end', () => resolve(length <= MAX_BODY ? Buffer.concat(chunks) : null));
    request.on('error', reject);
  });
}

/** What to answer to a request. */
async function answerTo(request) {
  const route = Object.hasOwn(ROUTES, request.url) && ROUTES[request.url];
  if (!route) return { outcome: 'no such path', status: 404 };
  if (request.method !== 'POST') return { outcome: 'not a POST', status: 405, headers: { Allow: 'POST' } };
  const body = await read(request);
  if (body === null) return { outcome: 'too long', status: 413 };
  return route(body, request.headers['x-retell-signature'] || '');
}

/** One request. */
async function handle(request, response) {
  const start = Date.now();
  let result;
  try {
    result = await answerTo(request);
  } catch (error) {
    result = { outcome: 'failed', reason: error.code, status: 503, headers: { 'Retry-After': '1' } };
  }
  const { outcome, reason, status, headers = {}, answer } = result;
  const text = answer === undefined || answer === null ? '' : JSON.stringify(answer);
  log(request.method, request.url in ROUTES ? request.url : '-', status, outcome, reason || '-', `${Date.now() - start} ms`);
  if (text) headers['Content-Type'] = 'application/json';
  if (!request.complete) headers.Connection = 'close'; // a body that nobody reads
  response.writeHead(status, headers).end(text);
}

const server = http.createServer(handle);
server.requestTimeout = 10000; // ms, for a whole request to arrive
server.headersTimeout = 5000;
server.maxConnections = 1000;
server.listen(Number(process.env.RECEIVER_PORT || 8080), process.env.RECEIVER_HOST || '127.0.0.1',
  () => log('listening on port', server.address().port));

// No new requests; those under way are answered, then it ends.
process.on('SIGTERM', () => {
  server.close(() => pool.end());
  server.closeIdleConnections();
});
