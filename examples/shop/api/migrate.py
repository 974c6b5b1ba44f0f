"""Brings the database to the newest schema. Each step runs once; a second run does nothing."""

import os

import psycopg

STEPS = [
    """
    CREATE TABLE orders (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        item text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX orders_by_time ON orders (created_at DESC)",
]


def main():
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(4711)")
        connection.execute("CREATE TABLE IF NOT EXISTS schema_version (step integer PRIMARY KEY)")
        done = connection.execute("SELECT count(*) FROM schema_version").fetchone()[0]
        for number, step in enumerate(STEPS[done:], start=done + 1):
            connection.execute(step)
            connection.execute("INSERT INTO schema_version VALUES (%s)", (number,))
            print(f"migrate: step {number} applied", flush=True)
    print(f"migrate: schema is at step {len(STEPS)}", flush=True)


if __name__ == "__main__":
    main()
