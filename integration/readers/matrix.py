"""Reads every version of tables by one client, and compares it with the truth.

usage: python matrix.py CLIENT SETTINGS.json      prints one JSON object; exit code 1 if something differs
"""

import collections
import datetime
import glob
import json
import os
import sys

UTC = datetime.timezone.utc
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=UTC)


def plain(value):
    """A value as the truth has it: texts, integers, microseconds, dates, None."""
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            value = value.replace(tzinfo=UTC)
        return (value - EPOCH) // datetime.timedelta(microseconds=1)
    if isinstance(value, datetime.date):
        return value.isoformat()
    return value


class SQL:
    """A client that takes SQL: query(path, version, columns, where) -> rows."""

    def literal(self, kind, value):
        if kind == "text":
            return "'" + value.replace("'", "''") + "'"
        if kind == "date":
            return f"DATE '{value}'"
        if kind == "timestamp":
            at = EPOCH + datetime.timedelta(microseconds=value)
            return self.timestamp(at.strftime("%Y-%m-%d %H:%M:%S.%f"))
        return str(value)

    def where(self, kinds, conditions):
        parts = []
        for c in conditions:
            name = self.quote(c["column"])
            if c["op"] in ("null", "not null"):
                parts.append(f"{name} IS {c['op'].upper()}")
            else:
                parts.append(f"{name} {c['op'].upper()} {self.literal(kinds[c['column']], c['value'])}")
        return " AND ".join(parts)

    def quote(self, name):
        return f'"{name}"'


class DeltaRS(SQL):
    def __init__(self, s):
        import deltalake

        self.lib, self.name = deltalake, f"delta-rs {deltalake.__version__}"

    def timestamp(self, text):
        return f"arrow_cast('{text.replace(' ', 'T')}Z', 'Timestamp(Microsecond, Some(\"UTC\"))')"

    def query(self, path, version, columns, where):
        t = self.lib.DeltaTable(path, version=version)
        names = ", ".join(self.quote(c) for c in columns)
        sql = f"SELECT {names} FROM t" + (f" WHERE {where}" if where else "")
        import pyarrow

        r = self.lib.QueryBuilder().register("t", t).execute(sql)
        r = pyarrow.table(r.read_all() if hasattr(r, "read_all") else r)
        return zip(*(r.column(i).to_pylist() for i in range(len(columns)))) if r.num_rows else []


    def changes(self, path, first, last, columns):
        import pyarrow

        r = self.lib.DeltaTable(path).load_cdf(starting_version=first, ending_version=last)
        r = pyarrow.table(r.read_all() if hasattr(r, "read_all") else r)
        return zip(*(r.column(c).to_pylist() for c in ["_change_type", "_commit_version"] + columns))


class DuckDB(SQL):
    def __init__(self, s):
        import duckdb
        import duckdb_extension_delta

        self.con = duckdb.connect(config={"allow_unsigned_extensions": "true"})
        folder = os.path.dirname(duckdb_extension_delta.__file__)
        self.con.execute(f"LOAD '{glob.glob(folder + '/extensions/*/delta.duckdb_extension')[0]}'")
        self.con.execute("SET TimeZone = 'UTC'")
        self.name = f"DuckDB {duckdb.__version__}"

    def timestamp(self, text):
        return f"TIMESTAMPTZ '{text}+00'"

    def query(self, path, version, columns, where):
        names = ", ".join(self.quote(c) for c in columns)
        sql = f"SELECT {names} FROM delta_scan('{path}', version={version})" + (f" WHERE {where}" if where else "")
        return self.con.execute(sql).fetchall()


class Polars:
    def __init__(self, s):
        import polars

        self.pl, self.pyarrow = polars, s.get("pyarrow", False)
        self.name = f"Polars {polars.__version__}" + (" by pyarrow" if self.pyarrow else "")

    def where(self, kinds, conditions):
        out = None
        for c in conditions:
            col, v = self.pl.col(c["column"]), c["value"]
            kind = kinds[c["column"]]
            if kind == "date" and v:
                v = datetime.date.fromisoformat(v)
            if kind == "timestamp" and v:
                v = EPOCH + datetime.timedelta(microseconds=v)
            part = {"null": lambda: col.is_null(), "not null": lambda: col.is_not_null(), "=": lambda: col == v,
                    "<": lambda: col < v, ">=": lambda: col >= v, "like": lambda: col.str.starts_with(v[:-1])}[c["op"]]()
            out = part if out is None else out & part
        return out

    def query(self, path, version, columns, where):
        lf = self.pl.scan_delta(path, version=version, use_pyarrow=self.pyarrow)
        if where is not None:
            lf = lf.filter(where)
        return lf.select(columns).collect().rows()


class ChDB(SQL):
    def __init__(self, s):
        from clickhouse_driver import Client

        host, port = s["clickhouse"].rsplit(":", 1)
        self.c = Client(host, int(port), user=s["clickhouse_user"], password=s["clickhouse_password"])
        self.name = "chDB " + self.c.execute("SELECT version()")[0][0]

    def timestamp(self, text):
        return f"toDateTime64('{text}', 6, 'UTC')"

    def literal(self, kind, value):
        if kind == "text":
            return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
        return super().literal(kind, value)

    def query(self, path, version, columns, where):
        names = ", ".join(self.quote(c) for c in columns)
        sql = f"SELECT {names} FROM deltaLakeLocal('{path}')" + (f" WHERE {where}" if where else "")
        return self.c.execute(sql + f" SETTINGS delta_lake_snapshot_version = {version}")


class Spark(SQL):
    def __init__(self, s):
        sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
        import deltaspark

        self.spark, self.name = deltaspark.start(s["jars"], log="OFF")

    def quote(self, name):
        return f"`{name}`"

    def timestamp(self, text):
        return f"TIMESTAMP '{text} UTC'"

    def query(self, path, version, columns, where):
        kinds = self.kinds
        names = ", ".join(f"unix_micros(`{c}`)" if kinds[c] == "timestamp" else f"`{c}`" for c in columns)
        sql = f"SELECT {names} FROM delta.`{path}` VERSION AS OF {version}" + (f" WHERE {where}" if where else "")
        return [tuple(r) for r in self.spark.sql(sql).collect()]

    def changes(self, path, first, last, columns):
        names = [f"unix_micros(`{c}`) AS `{c}`" if self.kinds[c] == "timestamp" else f"`{c}`" for c in columns]
        rows = (self.spark.read.format("delta").option("readChangeFeed", "true").option("startingVersion", first)
                .option("endingVersion", last).load(path))
        return [tuple(r) for r in rows.selectExpr("_change_type", "_commit_version", *names).collect()]


CLIENTS = {"delta-rs": DeltaRS, "DuckDB": DuckDB, "Polars": Polars, "chDB": ChDB, "Spark": Spark}


def holds(c, value):
    """Whether a value of the truth satisfies a condition, as SQL has it."""
    if c["op"] == "null":
        return value is None
    if value is None:
        return False
    return {"not null": lambda: True, "=": lambda: value == c["value"], "<": lambda: value < c["value"],
            ">=": lambda: value >= c["value"], "like": lambda: value.startswith(c["value"][:-1])}[c["op"]]()


class Matrix:
    def __init__(self, client, s):
        self.client, self.s = client, s
        self.out = {"versions": 0, "predicates": 0, "rows": 0, "refused": 0, "changes": 0, "wrong": []}

    def wrong(self, *what):
        self.out["wrong"].append(" ".join(str(w) for w in what)[:1500])

    def ask(self, table, v, columns, conditions):
        kinds = dict(table["columns"])
        self.client.kinds = kinds
        where = self.client.where(kinds, conditions) if conditions else None
        return [tuple(plain(x) for x in r) for r in self.client.query(table["path"], int(v), columns, where)]

    def norm(self, name, columns, row):
        if name != "sessions":
            return tuple(row)
        later = {"user_key": "", "other_events": 0}  # null in files that do not have them says the same
        return tuple(later[c] if x is None and c in later else x for c, x in zip(columns, row))

    def feed(self, name, table):
        """The change data feed of the versions that still have it: their differences."""
        versions = {int(v): is_ for v, is_ in table["versions"].items()}
        first = table["feed"] + 1
        while first in versions and not all(versions[v]["log"] and versions[v]["files"] for v in (first - 1, first)):
            first += 1
        if not table["feed"] or not hasattr(self.client, "changes") or first not in versions:
            return
        last = max(versions)
        columns = [c for c, _ in table["columns"]]
        self.client.kinds = dict(table["columns"])
        net = collections.defaultdict(collections.Counter)
        for what, version, *row in self.client.changes(table["path"], first, last, columns):
            sign = {"insert": 1, "update_postimage": 1, "delete": -1, "update_preimage": -1}[what]
            net[version][self.norm(name, columns, [plain(x) for x in row])] += sign
            self.out["changes"] += 1

        def rows(v):
            return collections.Counter(self.norm(name, columns, table["images"][i]) for i in versions[v]["rows"])

        for v in range(first, last + 1):
            want = rows(v)
            want.subtract(rows(v - 1))
            got, want = ({r: n for r, n in c.items() if n} for c in (net[v], want))
            if got != want:
                self.wrong(name, "changes of version", v, "missing:", [r for r in want if r not in got][:2],
                           "not in the truth:", [r for r in got if r not in want][:2])

    def table(self, name, table):
        versions = sorted(table["versions"], key=int)
        versions = [v for n, v in enumerate(versions) if n % self.s["one_of"] == 0 or n == len(versions) - 1]
        for n, v in enumerate(versions):
            is_ = table["versions"][v]
            columns = [c for c, _ in table["columns"][: is_["columns"]]]
            at = {c: i for i, c in enumerate(columns)}
            truth = [table["images"][i][: len(columns)] for i in is_["rows"]]

            def norm(row):
                return self.norm(name, columns, row)

            questions = [[]]
            if n % self.s["every"] == 0 or n == len(versions) - 1:
                questions += [p["conditions"] for p in self.s["predicates"]
                              if p["table"] == name and all(c["column"] in at for c in p["conditions"])]
            for q in questions:
                key = columns if not q else [table["key"]]
                want = collections.Counter(
                    norm(r) if not q else (r[at[table["key"]]],) for r in truth if all(holds(c, r[at[c["column"]]]) for c in q))
                try:
                    rows = self.ask(table, v, key, q)
                except Exception as e:  # the client's own kinds of errors
                    if is_["log"] and is_["files"]:
                        self.wrong(name, "version", v, q, "is refused:", type(e).__name__, str(e)[:500])
                    else:
                        self.out["refused"] += 1
                    continue
                if not is_["log"]:
                    self.wrong(name, "version", v, q, f"is not in the log, and {len(rows)} rows were read")
                    continue
                got = collections.Counter(norm(r) if not q else r for r in rows)
                if got != want:
                    self.wrong(name, "version", v, q, "missing:", list((want - got).items())[:2],
                               "not in the truth:", list((got - want).items())[:2])
                    continue
                self.out["predicates" if q else "versions"] += 1
                self.out["rows"] += len(rows)


def main():
    with open(sys.argv[2]) as f:
        s = json.load(f)
    m = Matrix(CLIENTS[sys.argv[1]](s), s)
    for name, table in s["tables"].items():
        m.table(name, table)
        m.feed(name, table)
    m.out["client"] = m.client.name
    print("RESULT " + json.dumps(m.out))
    sys.exit(1 if m.out["wrong"] else 0)


main()
