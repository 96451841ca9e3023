"""Sums up the newest versions of the tables events and sessions in a folder by delta-rs and by DuckDB.

usage: python totals.py FOLDER      prints {client: {table: [rows, sum, sum]}}
"""

import glob
import json
import os
import sys

SQL = {
    "events": "SELECT count(*), sum(kafka_offset), sum(batch_id % 1000003) FROM t",
    "sessions": "SELECT count(*), sum(total_events + revision), sum(time_on_page_sec) FROM t",
}


def delta_rs(path, sql):
    import deltalake
    import pyarrow

    r = deltalake.QueryBuilder().register("t", deltalake.DeltaTable(path)).execute(sql)
    r = pyarrow.table(r.read_all() if hasattr(r, "read_all") else r)
    return [r.column(i)[0].as_py() for i in range(r.num_columns)]


def duck(path, sql):
    import duckdb
    import duckdb_extension_delta

    con = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    found = glob.glob(os.path.dirname(duckdb_extension_delta.__file__) + "/extensions/*/delta.duckdb_extension")
    con.execute(f"LOAD '{found[0]}'")
    return list(con.execute(sql.replace("FROM t", f"FROM delta_scan('{path}')")).fetchone())


result = {}
for name, read in (("delta-rs", delta_rs), ("DuckDB", duck)):
    result[name] = {t: [int(v) for v in read(os.path.join(sys.argv[1], t), sql)] for t, sql in SQL.items()}
print("RESULT " + json.dumps(result))
