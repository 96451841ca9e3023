"""Registers Delta tables in a catalog of Spark, as a recipe in docs/operations.md has it, and reads them by name.

usage: python catalog_spark.py JARS FOLDER CATALOG TABLES BRAND…

FOLDER has the warehouse and, if CATALOG is hive, the database of the Hive metastore (Derby); in-memory is Spark's own.
TABLES is the folder of the tables sessions and events. Prints one JSON object: whether the tables were registered
before, their partition columns, all rows, and the session ids with each brand ("" is null).
"""

import json
import sys

import deltaspark

jars, folder, catalog, tables, brands = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5:]
spark, _ = deltaspark.start(jars, {
    "spark.sql.catalogImplementation": catalog, "spark.sql.warehouse.dir": folder + "/warehouse",
    "spark.hadoop.javax.jdo.option.ConnectionURL": f"jdbc:derby:;databaseName={folder}/metastore;create=true",
    "spark.hadoop.datanucleus.schema.autoCreateAll": "true",
    "spark.hadoop.hive.metastore.schema.verification": "false",
})


def rows(sql, *args):
    return [[None if v is None else str(v) for v in r] for r in spark.sql(sql, args=list(args)).collect()]


spark.sql("CREATE DATABASE IF NOT EXISTS lake")
known = {r.tableName for r in spark.sql("SHOW TABLES IN lake").collect()}
out = {"known": sorted(known), "partitions": {}}
for name in ("events", "sessions"):
    if name not in known:
        spark.sql(f"CREATE TABLE lake.{name} USING DELTA LOCATION '{tables}/{name}'")
    out["partitions"][name] = list(spark.sql(f"DESCRIBE DETAIL lake.{name}").collect()[0].partitionColumns)
out["sessions"] = rows("SELECT session_id, opening_brand, session_date FROM lake.sessions ORDER BY session_id")
out["events"] = rows("SELECT session_id, event_date, kafka_offset FROM lake.events ORDER BY kafka_offset")
out["joined"] = rows("SELECT s.opening_brand, count(*) FROM lake.sessions s JOIN lake.events e USING (session_id) "
                     "GROUP BY 1 ORDER BY 1 NULLS FIRST")
out["by"] = {}
for brand in brands:
    where, args = ("opening_brand IS NULL", []) if brand == "" else ("opening_brand = ?", [brand])
    found = rows(f"SELECT session_id FROM lake.sessions WHERE {where} ORDER BY 1", *args)
    out["by"][brand] = [r[0] for r in found]
print("RESULT " + json.dumps(out))
spark.stop()
