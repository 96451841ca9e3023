"""The Spark session of the tests that read and write Delta tables by Spark."""

import glob
import os

from pyspark.sql import SparkSession
import pyspark

# One processor, no shuffles and no pages of its own: what the tests ask of it are many small questions, and most of
# the time is Spark's own. The compiler that is quick, and not the one that compiles well, takes a third of it away.
SETTINGS = {
    "spark.ui.enabled": "false", "spark.driver.memory": "1g", "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1", "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.session.timeZone": "UTC", "spark.sql.shuffle.partitions": "1",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "1",  # VACUUM takes minutes otherwise
    "spark.databricks.delta.snapshotPartitions": "1",
}


def start(jars, settings=None, log="ERROR"):
    """A session with the jars of a folder, and its name; more settings go over those above."""
    os.environ["TZ"] = "UTC"
    jars = sorted(glob.glob(jars + "/*.jar"))
    builder = SparkSession.builder.master("local[1]").config("spark.jars", ",".join(jars))
    for key, value in {**SETTINGS, **(settings or {})}.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel(log)
    delta = [os.path.basename(j) for j in jars if os.path.basename(j).startswith("delta-spark")][0]
    return spark, f"Spark {pyspark.__version__} with {delta.removesuffix('.jar')}"
