"""Checks the version checksums of a Delta table by Spark's own code, and has Spark commit to it.

usage: python delta_spark.py JARS TABLE VERSION…      the last one is the newest; prints one JSON object
"""

import glob
import json
import sys

from pyspark.sql import SparkSession

jars, table, versions = sys.argv[1], sys.argv[2], [int(v) for v in sys.argv[3:]]
spark = (SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").config("spark.driver.memory", "1g")
         .config("spark.driver.host", "127.0.0.1").config("spark.driver.bindAddress", "127.0.0.1")
         .config("spark.jars", ",".join(glob.glob(jars + "/*.jar")))
         .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
         .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
         .config("spark.sql.shuffle.partitions", "1")
         .config("spark.databricks.delta.snapshotPartitions", "1")
         .config("spark.databricks.delta.incrementalCommit.enabled", "true")
         .config("spark.databricks.delta.checksum_mismatch_is_fatal", "true")
         .getOrCreate())
spark.sparkContext.setLogLevel("ERROR")
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
