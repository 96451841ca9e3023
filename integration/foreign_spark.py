"""Runs SQL on a Delta table, one statement a line of standard input; prints the rows of each as a line of JSON.

usage: python foreign_spark.py JARS                   an error is printed as {"error": text}
"""

import glob
import json
import sys

from pyspark.sql import SparkSession

spark = (SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").config("spark.driver.memory", "1g")
         .config("spark.driver.host", "127.0.0.1").config("spark.driver.bindAddress", "127.0.0.1")
         .config("spark.jars", ",".join(glob.glob(sys.argv[1] + "/*.jar")))
         .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
         .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
         .config("spark.sql.shuffle.partitions", "1").config("spark.databricks.delta.snapshotPartitions", "1")
         .config("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")
         .getOrCreate())
spark.sparkContext.setLogLevel("ERROR")
print("RESULT " + json.dumps(spark.version), flush=True)
for line in sys.stdin:
    try:
        out = [[str(v) if v is not None else None for v in r] for r in spark.sql(line).collect()]
    except Exception as e:
        out = {"error": str(e)[:2000]}
    print("RESULT " + json.dumps(out), flush=True)
