"""The shop's API: orders live in PostgreSQL, and are read through Redis.

GET  /healthz     200 when the database and the cache answer
POST /orders      {"item": "..."} -> 201 with the order
GET  /orders      the newest orders, straight from the database
GET  /orders/ID   one order; the header x-cache says where it came from (hit: Redis, miss: PostgreSQL)
"""

import json
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg
import redis

CACHE_SECONDS = 300
BODY_MAX_BYTES = 64 * 1024

cache = redis.Redis.from_url(os.environ["REDIS_URL"], socket_timeout=5)


def database():
    return psycopg.connect(os.environ["DATABASE_URL"], connect_timeout=5)


def as_order(row):
    return {"id": row[0], "item": row[1], "created_at": row[2].isoformat()}


def create_order(item):
    with database() as connection:
        row = connection.execute(
            "INSERT INTO orders (item) VALUES (%s) RETURNING id, item, created_at", (item,)
        ).fetchone()
    order = as_order(row)
    cache.set(f"order:{order['id']}", json.dumps(order), ex=CACHE_SECONDS)
    return order


def find_order(number):
    """The order or None, and whether the cache had it."""
    cached = cache.get(f"order:{number}")
    if cached is not None:
        return json.loads(cached), "hit"
    with database() as connection:
        row = connection.execute("SELECT id, item, created_at FROM orders WHERE id = %s", (number,)).fetchone()
    if row is None:
        return None, "miss"
    order = as_order(row)
    cache.set(f"order:{number}", json.dumps(order), ex=CACHE_SECONDS)
    return order, "miss"


def newest_orders():
    with database() as connection:
        rows = connection.execute("SELECT id, item, created_at FROM orders ORDER BY id DESC LIMIT 50").fetchall()
    return [as_order(row) for row in rows]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/healthz":
            self.healthz()
        elif self.path == "/orders":
            self.answer(200, {"orders": newest_orders()})
        elif self.path.startswith("/orders/") and self.path[8:].isdigit():
            order, found_in = find_order(int(self.path[8:]))
            if order is None:
                self.answer(404, {"error": "no such order"})
            else:
                self.answer(200, order, {"x-cache": found_in})
        else:
            self.answer(404, {"error": "no such page"})

    def do_POST(self):
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(min(length, BODY_MAX_BYTES))
        if self.path != "/orders":
            self.answer(404, {"error": "no such page"})
            return
        try:
            item = json.loads(body)["item"]
        except (ValueError, KeyError, TypeError):
            item = None
        if not isinstance(item, str) or not item.strip():
            self.answer(400, {"error": 'expected {"item": "..."}'})
            return
        self.answer(201, create_order(item.strip()))

    def healthz(self):
        try:
            with database() as connection:
                connection.execute("SELECT 1")
            cache.ping()
        except (psycopg.Error, redis.RedisError) as error:
            self.answer(503, {"error": str(error)})
        else:
            self.answer(200, {"ok": True})

    def answer(self, status, body, headers=None):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format, *args):
        if self.path != "/healthz":
            print(f"api: {format % args}", flush=True)


def main():
    port = int(os.environ["PORT"])
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"api: listening on {port}", flush=True)
    server.serve_forever()
    print("api: bye", flush=True)


if __name__ == "__main__":
    sys.exit(main())
