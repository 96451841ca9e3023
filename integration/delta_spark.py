"""Checks the version checksums of a Delta table by Spark's own code, and has Spark commit to it.

usage: python delta_spark.py JARS TABLE VERSION…      the last one is the newest; prints one JSON object
"""

import json
import sys

import deltaspark

jars, table, versions = sys.argv[1], sys.argv[2], [int(v) for v in sys.argv[3:]]
spark, _ = deltaspark.start(jars, {"spark.databricks.delta.incrementalCommit.enabled": "true",
                                   "spark.databricks.delta.checksum_mismatch_is_fatal": "true"})
logs = spark._jvm.org.apache.spark.sql.delta.DeltaLog


def look(version):
    logs.clearCache()
    log = logs.forTable(spark._jsparkSession, table)
    snapshot = getattr(log, "getSnapshotAt")(version, getattr(log, "getSnapshotAt$default$2")(),
                                             getattr(log, "getSnapshotAt$default$3")()) \
        if hasattr(log, "getSnapshotAt$default$3") else log.getSnapshotAt(version, getattr(log, "getSnapshotAt$default$2")())
    there = snapshot.checksumOpt().isDefined()
    valid = snapshot.validateChecksum(getattr(snapshot, "validateChecksum$default$1")()) if there else None
    return {"there": there, "valid": valid, "files": snapshot.numOfFiles(), "bytes": snapshot.sizeInBytes()}


out = {"versions": {v: look(v) for v in versions}}
spark.sql(f"ALTER TABLE delta.`{table}` SET TBLPROPERTIES ('delta.logRetentionDuration' = 'interval 10 days')")
out["spark"] = look(versions[-1] + 1)
print("RESULT " + json.dumps(out))
