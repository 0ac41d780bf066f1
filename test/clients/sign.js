// sign: signs bodies with the vendor's own SDK, for test_clients.py.
//
// Reads a JSON array of [body, key] from standard input, writes one of signatures; of
// [body, key, signature], whether the SDK finds the signature right.
'use strict';
globalThis.crypto ??= require('crypto').webcrypto; // Node 18 has it under this name only
const { Retell } = require('retell-sdk');

async function main() {
  const chunks = [];
  for await (const chunk of process.stdin) chunks.push(chunk);
  const tasks = JSON.parse(Buffer.concat(chunks).toString());
  const answers = tasks.map(([body, key, signature]) =>
    (signature === undefined ? Retell.sign(body, key) : Retell.verify(body, key, signature)));
  console.log(JSON.stringify(await Promise.all(answers)));
}

main();
