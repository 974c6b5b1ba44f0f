// The shop's front end: a page with the orders, and a form that makes one. Everything it knows comes from the API.
'use strict';

const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');
const mustache = require('mustache');

const api = process.env.API_URL;
const port = Number(process.env.PORT);
const page = fs.readFileSync(path.join(__dirname, 'page.mustache'), 'utf8');
const BODY_MAX_BYTES = 64 * 1024;

async function home(response) {
  const answer = await fetch(`${api}/orders`);
  if (!answer.ok) throw new Error(`the api answered ${answer.status}`);
  send(response, 200, 'text/html; charset=utf-8', mustache.render(page, await answer.json()));
}

async function order(request, response) {
  const item = new URLSearchParams(await read(request)).get('item');
  const answer = await fetch(`${api}/orders`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ item }),
  });
  if (!answer.ok) throw new Error(`the api answered ${answer.status}`);
  response.writeHead(303, { location: '/', 'content-length': 0 });
  response.end();
}

async function read(request) {
  let body = '';
  for await (const chunk of request) {
    body += chunk;
    if (body.length > BODY_MAX_BYTES) throw new Error('the body is too long');
  }
  return body;
}

function send(response, status, type, body) {
  response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body) });
  response.end(body);
}

async function handle(request, response) {
  if (request.method === 'GET' && request.url === '/healthz') return send(response, 200, 'text/plain', 'ok\n');
  if (request.method === 'GET' && request.url === '/') return home(response);
  if (request.method === 'POST' && request.url === '/orders') return order(request, response);
  return send(response, 404, 'text/plain', 'no such page\n');
}

const server = http.createServer((request, response) => {
  handle(request, response).catch((error) => {
    console.error(`web: ${request.method} ${request.url}: ${error.message}`);
    if (!response.headersSent) send(response, 502, 'text/plain', 'the shop is not reachable right now\n');
  });
});

server.listen(port, '127.0.0.1', () => console.log(`web: listening on ${port}, api at ${api}`));
process.on('SIGTERM', () => {
  console.log('web: bye');
  server.close();
  server.closeAllConnections();
});
