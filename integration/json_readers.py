"""Reads JSON texts through a reader that nobody here wrote, and prints the value of each in one exact form.

usage: python json_readers.py READER TEXTS      READER: python, duckdb, clickhouse or spark

TEXTS is a file with one text per line, in hexadecimal. Of each text a line is printed: n null, t true, f false, i and the
digits of an integer, d and the bits of a double in hexadecimal, s and the UTF-8 bytes of a text in hexadecimal; [...] is
a list, {...} an object with its names, as texts, in ascending order. A name that stands twice is there twice. What a
reader cannot read is an error, or "none". ClickHouse is the one that CLICKHOUSE names (host:port user password).
"""

import json
import os
import struct
import sys


def double(value):
    return "d" + struct.pack(">d", value).hex()


def text(value):
    return "s" + (value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")).hex()


def members(pairs):
    return "{" + ",".join(name + ":" + value for name, value in sorted((text(n), v) for n, v in pairs)) + "}"


def elements(values):
    return "[" + ",".join(values) + "]"


def canonical(v):
    if v is None or isinstance(v, bool):
        return {None: "n", True: "t", False: "f"}[v]
    if isinstance(v, int):
        return f"i{v}"
    if isinstance(v, float):
        return double(v)
    if isinstance(v, str):
        return text(v)
    if isinstance(v, list):
        return elements([canonical(e) for e in v])
    return members([(n, canonical(e)) for n, e in v.items()])


def python(texts):
    return [canonical(json.loads(t)) for t in texts]


def duckdb(texts):
    import duckdb

    con = duckdb.connect()
    con.execute(
        "CREATE TABLE docs AS SELECT unnest(?::INTEGER[]) AS doc, unnest(?::VARCHAR[]) AS j",
        [list(range(len(texts))), [t.decode() for t in texts]],
    )
    rows = con.execute(
        "SELECT doc, t.id, t.parent, t.key, t.type, if(t.type = 'VARCHAR', t.value ->> '$', NULL),"
        " if(t.type IN ('BIGINT', 'UBIGINT', 'HUGEINT'), t.value::HUGEINT, NULL),"
        " if(t.type = 'DOUBLE', t.value::DOUBLE, NULL), t.value::VARCHAR"
        " FROM docs, json_tree(docs.j::JSON) t ORDER BY doc, t.id DESC"
    ).fetchall()
    scalar = {"NULL": lambda r: "n", "BOOLEAN": lambda r: {"true": "t", "false": "f"}[r[8]],
              "VARCHAR": lambda r: text(r[5]), "DOUBLE": lambda r: double(r[7])}
    below, out = {}, ["none"] * len(texts)
    for r in rows:  # what stands deeper, and later, comes first
        inner = below.pop((r[0], r[1]), [])
        if r[4] == "OBJECT":
            value = members(inner)
        elif r[4] == "ARRAY":
            value = elements([v for _, v in sorted((int(k), v) for k, v in inner)])
        else:
            value = scalar.get(r[4], lambda r: f"i{r[6]}")(r)
        if r[2] is None:
            out[r[0]] = value
        else:
            below.setdefault((r[0], r[2]), []).append((r[3], value))
    return by_name(texts, out, lambda paths: pointers(con, paths))


def pointers(con, paths):
    """The values at paths of names and places, by JSON pointers."""
    escaped = lambda s: str(s).replace("~", "~0").replace("/", "~1")
    con.execute(
        "CREATE TABLE paths AS SELECT unnest(?::INTEGER[]) AS n, unnest(?::INTEGER[]) AS doc, unnest(?::VARCHAR[]) AS p",
        [list(range(len(paths))), [doc for doc, _ in paths], ["".join("/" + escaped(s) for s in path) for _, path in paths]],
    )
    rows = con.execute(
        "SELECT json_type(j, p), j ->> p, j -> p FROM paths JOIN docs USING (doc) ORDER BY n").fetchall()
    for kind, value, raw in rows:
        if kind == "VARCHAR":
            yield text(value)
        else:
            yield "none" if raw is None else canonical(json.loads(raw))


def leaves(value, path=()):
    """The paths to the scalars of a value as Python reads it."""
    if isinstance(value, dict):
        for name, v in value.items():
            yield from leaves(v, path + (name,))
    elif isinstance(value, list):
        for i, v in enumerate(value):
            yield from leaves(v, path + (i,))
    else:
        yield path, canonical(value)


def by_name(texts, out, values):
    """Looks scalars of small objects up by their names, as analysts do; where that gives another value, out says so."""
    paths, wants = [], []
    for i, t in enumerate(texts):
        if len(t) > 200 or t[:1] != b"{":
            continue
        found = list(leaves(json.loads(t)))
        if len(found) <= 6:
            paths += [(i, path) for path, _ in found]
            wants += [want for _, want in found]
    for (i, path), want, got in zip(paths, wants, values(paths), strict=True):
        if got != want:
            out[i] = f"by name, {path}: {got}, not {want}; {out[i]}"
    return out


def clickhouse(texts):
    from clickhouse_driver import Client

    address, user, password = os.environ["CLICKHOUSE"].split()
    host, port = address.rsplit(":", 1)
    c = Client(host, int(port), user=user, password=password, settings={"strings_as_bytes": True})
    c.execute("CREATE DATABASE IF NOT EXISTS json")
    for table, columns in (("docs", "doc UInt32, j String"), ("nodes", "depth UInt32, n UInt32, doc UInt32, p Array(Int64)")):
        c.execute(f"DROP TABLE IF EXISTS json.{table}")
        c.execute(f"CREATE TABLE json.{table} ({columns}) ENGINE = Memory")
    c.execute("INSERT INTO json.docs (doc, j) VALUES", [(i, t) for i, t in enumerate(texts)])

    def value(args):
        return (f"toString(JSONType({args})), JSONExtractString({args}), JSONExtractInt({args}),"
                f" JSONExtractUInt({args}), reinterpretAsUInt64(JSONExtractFloat({args})), JSONExtractBool({args})")

    def scalar(kind, string, integer, unsigned, bits, boolean):
        return {b"Null": "n", b"Bool": "t" if boolean else "f", b"String": text(string), b"Int64": f"i{integer}",
                b"UInt64": f"i{unsigned}", b"Double": f"d{bits:016x}"}[kind]

    # Level by level, by places: a place leads into an object, too.
    levels, depth, nodes = [], 0, [(i, []) for i in range(len(texts))]
    while nodes:
        c.execute("INSERT INTO json.nodes (depth, n, doc, p) VALUES", [(depth, n, d, p) for n, (d, p) in enumerate(nodes)])
        args = "j" + "".join(f", p[{k + 1}]" for k in range(depth))
        rows = c.execute(
            f"SELECT {value(args)}, if(JSONType({args}) = 'Object', JSONExtractKeys({args}), []), JSONLength({args})"
            f" FROM json.nodes JOIN json.docs USING (doc) WHERE depth = {depth} ORDER BY n")
        levels.append(rows)
        nodes = [(d, p + [k + 1]) for (d, p), r in zip(nodes, rows, strict=True)
                 if r[0] in (b"Object", b"Array") for k in range(r[7])]
        depth += 1
    below = iter(())
    for rows in reversed(levels):
        values = []
        for r in rows:
            inner = [next(below) for _ in range(r[7])] if r[0] in (b"Object", b"Array") else None
            if r[0] == b"Object":
                values.append(members(list(zip(r[6], inner, strict=True))))
            else:
                values.append(elements(inner) if inner is not None else scalar(*r[:6]))
        below = iter(values)

    def values(paths):
        for at in range(0, len(paths), 50):
            some = paths[at : at + 50]
            docs = sorted({d for d, _ in some})
            columns = ", ".join(f"anyIf(j, doc = {d}) AS j{d}" for d in docs)
            steps = lambda path: "".join(f", {s + 1}" if isinstance(s, int) else f", unhex('{s.encode().hex()}')" for s in path)
            wanted = ", ".join(value(f"j{d}{steps(path)}") for d, path in some)
            (row,) = c.execute(f"SELECT {wanted} FROM (SELECT {columns} FROM json.docs WHERE doc IN ({', '.join(map(str, docs))}))")
            for k in range(len(some)):
                yield scalar(*row[6 * k : 6 * k + 6])

    return by_name(texts, list(below), values)


def spark(texts):
    from pyspark.sql import SparkSession, functions as F, types as T

    s = (SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").config("spark.driver.memory", "1g")
         .config("spark.driver.host", "127.0.0.1").config("spark.driver.bindAddress", "127.0.0.1")
         .config("spark.sql.codegen.wholeStage", "false").config("spark.sql.codegen.factoryMode", "NO_CODEGEN")
         .config("spark.sql.optimizer.excludedRules", "org.apache.spark.sql.catalyst.optimizer.ConvertToLocalRelation")
         .getOrCreate())
    s.sparkContext.setLogLevel("ERROR")
    scalars = {type(None): T.StringType(), bool: T.BooleanType(), int: T.LongType(), float: T.DoubleType(), str: T.StringType()}

    def shape(v):
        """The type by which Spark reads a value. A list whose values are of several types is one of texts."""
        if type(v) in scalars:
            return scalars[type(v)]
        if isinstance(v, list):
            shapes = [shape(e) for e in v]
            same = v and all(x == shapes[0] for x in shapes) and all((e is None) == (v[0] is None) for e in v)
            return T.ArrayType(shapes[0] if same else T.StringType())
        if not v:
            return T.MapType(T.StringType(), T.StringType())
        return T.StructType([T.StructField(n, shape(e)) for n, e in v.items()])

    again = []  # what stands in a list of texts and is to be read once more: text and value, in the order of places

    def show(got, v, t):
        if got is None and v is not None:
            return "none"
        if isinstance(t, T.ArrayType) and len(got) == len(v):
            return elements([mixed(g, e) if t.elementType == T.StringType() else show(g, e, t.elementType)
                             for g, e in zip(got, v)])
        if isinstance(t, T.StructType):
            return members([(f.name, show(g, v[f.name], f.dataType)) for f, g in zip(t.fields, got)])
        if isinstance(t, T.MapType):
            return members([(n, text(e)) for n, e in got.items()])
        return canonical(got)

    def mixed(got, v):
        """A value of a list of texts. Spark has no type for it: what the value is, is Python's word."""
        if v is None or isinstance(v, str) or got is None:
            return canonical(got)
        if isinstance(v, bool):
            return {"true": "t", "false": "f"}.get(got, "none")
        if isinstance(v, (int, float)):
            return canonical(type(v)(got))
        again.append((got, v))
        return f"<{len(again) - 1}>"

    # A name that no text has: under its default, `_corrupt_record`, from_json would not read what a text holds.
    corrupt = {"columnNameOfCorruptRecord": "what from_json cannot read"}

    def read(batch):
        frame = s.createDataFrame([tuple(t for t, _ in batch)], T.StructType([T.StructField(f"t{i}", T.StringType()) for i in range(len(batch))]))
        row = frame.select(
            *[F.from_json(f"t{i}", shape(v), corrupt) for i, (_, v) in enumerate(batch)],
            *[F.map_keys(F.from_json(f"t{i}", "map<string,string>", corrupt)) for i in range(len(batch))],
        ).collect()[0]
        for i, (_, v) in enumerate(batch):
            value, names = show(row[i], v, shape(v)), row[len(batch) + i]
            if isinstance(v, dict) and sorted(names or []) != sorted(v):
                value = f"names {names}; {value}"
            yield value

    todo, out = [(t.decode(), json.loads(t)) for t in texts], []
    while len(out) < len(todo):
        batch = todo[len(out) : len(out) + 100]
        out += list(read(batch))
        todo = todo[: len(texts)] + again
    for i in reversed(range(len(again))):
        where = f"<{i}>"
        for k in range(len(texts) + i):
            if where in out[k]:
                out[k] = out[k].replace(where, out[len(texts) + i])
    return out[: len(texts)]


def main():
    with open(sys.argv[2]) as f:
        texts = [bytes.fromhex(line.strip()) for line in f]
    out = {"python": python, "duckdb": duckdb, "clickhouse": clickhouse, "spark": spark}[sys.argv[1]](texts)
    if len(out) != len(texts):
        sys.exit(f"{len(out)} values of {len(texts)} texts")
    print("\n".join(out))


main()
