# In place of what README.md's example tries: see test_clients.py.
import json
import os

given = json.loads(os.environ["TC_GIVEN"])
told = {}


def code(work):
    try:
        work()
    except psycopg.Error as error:
        return error.sqlstate


def see(conn):
    return [company for company, in conn.execute("SELECT DISTINCT company_id FROM notes")]


def half(conn):
    conn.execute("INSERT INTO notes (body) VALUES ('half')")
    conn.execute("SELECT 1 / 0")


told["statuses"] = [receive(bytes.fromhex(body), signature) for body, signature in given["messages"]]
told["seen"] = [in_company(token, see) for token in given["tokens"]]
told["no_begin"] = code(lambda: app.execute("SELECT tenantcall.enter_token(%s)", [given["tokens"][0]]))
told["bad_token"] = code(lambda: in_company(given["tokens"][0] + "x", see))
told["in_the_middle"] = code(lambda: in_company(given["tokens"][0], half))
told["second_company"] = code(lambda: in_company(given["tokens"][0], lambda conn: conn.execute(
    "SELECT tenantcall.enter_token(%s)", [given["tokens"][1]])))
told["without"], = app.execute("SELECT count(*) FROM notes").fetchone()
told["right"] = told["failed"] = 0
for n in range(40):
    try:
        with app.transaction():
            if n % 5 == 0:
                in_company(given["tokens"][n % 2], see)
                raise ValueError("not today")
            told["right"] += in_company(given["tokens"][n % 2], see) == [given["companies"][n % 2]]
    except ValueError:
        told["failed"] += 1
told["bigint"] = in_company(given["tokens"][0], lambda conn: [
    str(big) if n == 0 else (big["a"][0] if n == 1 else big.hex()) for n, big in enumerate(conn.execute(
        "SELECT 9007199254740993::bigint, '{\"a\": [1]}'::jsonb, '\\x00ff'::bytea").fetchone())])
print(json.dumps(told))
