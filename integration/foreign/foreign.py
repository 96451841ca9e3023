"""Does to a Delta table of sessions what it is told, one command a line of standard input, by one tool.

usage: python foreign.py TOOL TABLE JARS      each answer is a line "RESULT " with a JSON value, or {"error": text}
"""

import datetime
import json
import os
import sys

NOTE = "note"  # the column that the tool adds


class DeltaRS:
    def __init__(self, path, jars):
        import deltalake
        import pyarrow

        self.lib, self.pa, self.path = deltalake, pyarrow, path
        self.name = f"delta-rs {deltalake.__version__}"

    def table(self, version=None):
        return self.lib.DeltaTable(self.path, version=version)

    def arrow(self, reader):
        return self.pa.table(reader.read_all() if hasattr(reader, "read_all") else reader)

    def version(self):
        return self.table().version()

    def rows(self, version=None):
        t = self.table(version)
        note = NOTE if NOTE in [f.name for f in t.schema().fields] else "NULL"
        r = self.lib.QueryBuilder().register("t", t).execute(f"SELECT session_id, total_events, {note} AS note FROM t")
        r = self.arrow(r)
        return [list(x) for x in zip(*(r.column(i).to_pylist() for i in range(3)))]

    def add_column(self):
        self.table().alter.add_columns([self.lib.Field(NOTE, self.lib.schema.PrimitiveType("string"))])

    def update(self, where, note):
        self.table().update(updates={NOTE: f"'{note}'"}, predicate=where)

    def delete(self, where):
        self.table().delete(where)

    def constrain(self, name, expression):
        self.table().alter.add_constraint({name: expression})

    def drop(self, name):
        self.table().alter.drop_constraint(name)

    def set(self, key, value):
        self.table().alter.set_table_properties({key: value}, raise_if_not_exists=False)

    def compact(self):
        self.table().optimize.compact()

    def z_order(self):
        self.table().optimize.z_order(["session_id"])

    def vacuum(self):
        return self.table().vacuum(dry_run=False, full=True)

    def checkpoint(self):
        self.table().create_checkpoint()

    def restore(self, version):
        self.table().restore(version)

    def changes(self, first, last):
        r = self.arrow(self.table().load_cdf(starting_version=first, ending_version=last))
        names = ["_change_type", "_commit_version", "session_id", "total_events", NOTE]
        return [list(x) for x in zip(*(r.column(n).to_pylist() for n in names))]


class Spark:
    def __init__(self, path, jars):
        sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
        import deltaspark

        self.path = path
        self.spark, self.name = deltaspark.start(jars, log="OFF")
        self.sql(f"CREATE TABLE sessions USING DELTA LOCATION '{path}'")

    def sql(self, text):
        return [list(r) for r in self.spark.sql(text).collect()]

    def version(self):
        return self.sql("DESCRIBE HISTORY sessions LIMIT 1")[0][0]

    def rows(self, version=None):
        of = f"delta.`{self.path}`" + ("" if version is None else f" VERSION AS OF {version}")
        note = NOTE if NOTE in self.spark.sql(f"SELECT * FROM {of}").columns else "NULL"
        return self.sql(f"SELECT session_id, total_events, {note} FROM {of}")

    def add_column(self):
        self.sql(f"ALTER TABLE sessions ADD COLUMN {NOTE} STRING")

    def update(self, where, note):
        self.sql(f"UPDATE sessions SET {NOTE} = '{note}' WHERE {where}")

    def delete(self, where):
        self.sql(f"DELETE FROM sessions WHERE {where}")

    def constrain(self, name, expression):
        self.sql(f"ALTER TABLE sessions ADD CONSTRAINT {name} CHECK ({expression})")

    def drop(self, name):
        self.sql(f"ALTER TABLE sessions DROP CONSTRAINT {name}")

    def set(self, key, value):
        self.sql(f"ALTER TABLE sessions SET TBLPROPERTIES ('{key}' = '{value}')")

    def compact(self):
        self.sql("OPTIMIZE sessions")

    def z_order(self):
        self.sql("OPTIMIZE sessions ZORDER BY (session_id)")

    def vacuum(self):
        self.sql("VACUUM sessions")

    def checkpoint(self):
        self.set("delta.checkpointInterval", "1")  # of this very commit there is a checkpoint
        self.set("delta.checkpointInterval", "10")

    def restore(self, version):
        self.sql(f"RESTORE TABLE sessions TO VERSION AS OF {version}")

    def changes(self, first, last):
        return self.sql(f"SELECT _change_type, _commit_version, session_id, total_events, {NOTE} "
                        f"FROM table_changes('sessions', {first}, {last})")


def plain(value):
    if isinstance(value, (datetime.datetime, datetime.date)):
        return value.isoformat()
    return value


tool = {"delta-rs": DeltaRS, "Spark": Spark}[sys.argv[1]](sys.argv[2], sys.argv[3])
print("RESULT " + json.dumps(tool.name), flush=True)
for line in sys.stdin:
    do, *args = json.loads(line)
    try:
        out = getattr(tool, do)(*args)
    except Exception as e:  # the tool's own kinds of errors
        out = {"error": f"{type(e).__name__}: {str(e)[:3000]}"}
    print("RESULT " + json.dumps(out, default=plain), flush=True)
