"""The job that Deckle is measured against: Spark Structured Streaming, Kafka -> sessions -> Delta on S3 + ClickHouse.

For each session that a batch touched it writes one row with the columns of docs/schema.md: appended to a Delta table
and inserted into a ReplacingMergeTree. The image with the greatest batch_id is the session. Along with it go the
session's rows of page_analytics and what the batch adds to the rollups. An event whose event_id is in its session
already counts once. The names, columns and views of ClickHouse are those of docs/schema.md. docs/performance.md says
what makes the job fast, and how much each choice gained.

  - One pass: a batch is computed once and its rows are kept; Arrow carries them to ClickHouse while Delta is written.
  - Pages and rollups are computed from the same rows, in Arrow's columns.
  - Work per event (JSON, texts, numbers) runs before the shuffle; a session's list is sorted once per batch.
  - State is in RocksDB with a changelog, in a local folder, in as many partitions as there are cores.

Every progress line (JSON, one per batch, written when both sinks have the batch) says that the events up to there are
final.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback

import numpy as np
from pyspark import SparkConf, StorageLevel
from pyspark.sql import Column, SparkSession, functions as F

from jobclick import COUNTED, DIMENSIONS, SESSIONS, TYPES, Click

SUMMED = {"time_on_page_sec": "article_view", "video_watch_sec": "video_play", "ad_revenue_micros": "ad_click"}

# Only the fields that are used are decoded. engagement_metrics stays a text: page_events has it as it came. So do the
# fields that publishers send as numbers or as texts.
EVENT = ", ".join(
    [
        "event_id string",
        "session_id string",
        "user_id string",
        "event_type string",
        "timestamp string",
        "category string",
        "article_id string",
        "article_title string",
        "page_url string",
        "engagement_metrics string",
    ]
    + [d + " string" for d in DIMENSIONS]
)
METRICS = ", ".join(
    m + " string"
    for m in "time_on_page scroll_depth playback_position ad_revenue read_progress is_article_complete".split()
)
MOST_METRICS = 4096  # bytes of engagement_metrics that page_events shows

# The columns with statistics in Delta are those of Deckle's table.
STATISTICS = (
    "session_id,user_id,brand,country,device_type,subscription_tier,session_start,session_end,session_duration_sec,"
    "total_events,status,revision,batch_id,created_at"
)


# Columns whose values rarely repeat: Parquet should not try a dictionary.
UNLIKE = ["session_id", "page_events", "categories_visited", "article_ids_visited", "article_titles_visited", "origin"]


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--brokers", required=True)
    p.add_argument("--topic", required=True)
    p.add_argument(
        "--events", type=int, required=True, help="end when so many records are written to both sinks; 0: on SIGTERM"
    )
    p.add_argument(
        "--warm",
        type=int,
        default=0,
        help="first process so many records of the topic for nothing, into tables of their own",
    )
    p.add_argument("--max-offsets", type=int, default=300000, help="records a batch")
    p.add_argument("--trigger", default="0 seconds", help="interval of the trigger; 0: as fast as possible")
    p.add_argument(
        "--endpoint",
        required=True,
        help="S3 endpoint, http://host:port; keys in SPARK_S3_ACCESS_KEY, SPARK_S3_SECRET_KEY",
    )
    p.add_argument("--bucket", required=True)
    p.add_argument("--prefix", required=True, help="the Delta table is PREFIX/sessions")
    p.add_argument(
        "--clickhouse", required=True, help="host:port of the native protocol; password in SPARK_CLICKHOUSE_PASSWORD"
    )
    p.add_argument("--clickhouse-user", default="default")
    p.add_argument("--database", default="spark")
    p.add_argument("--dir", required=True, help="local folder of checkpoint, state and shuffle files")
    p.add_argument("--jars", required=True)
    p.add_argument("--heap", type=int, default=1536, help="MB")
    p.add_argument("--cores", type=int, default=2)
    p.add_argument("--java", default="-XX:+UseSerialGC -XX:MetaspaceSize=256m", help="options of the JVM")
    p.add_argument("--conf", action="append", default=[], help="KEY=VALUE, over the settings here")
    p.add_argument("--progress", required=True)
    return p.parse_args()


def session(o):
    conf = SparkConf().setAll(
        {
            "spark.master": f"local[{o.cores}]",
            "spark.app.name": "sessions",
            "spark.driver.memory": f"{o.heap}m",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.extraClassPath": os.path.join(o.jars, "*"),
            "spark.driver.extraJavaOptions": f"-Xms{o.heap}m {o.java}",
            "spark.local.dir": os.path.join(o.dir, "local"),
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.serializer": "org.apache.spark.serializer.KryoSerializer",
            "spark.shuffle.compress": "false",  # the data only go to the page cache and back, within one machine
            "spark.sql.session.timeZone": "UTC",
            "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
            "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
            "spark.sql.shuffle.partitions": str(o.cores),
            "spark.sql.adaptive.enabled": "false",
            # Aggregation with collect_list uses a hash map of objects; by default it sorts beyond 128 groups.
            "spark.sql.objectHashAggregate.sortBased.fallbackThreshold": "10000000",
            "spark.sql.inMemoryColumnarStorage.compressed": "false",
            "spark.sql.execution.arrow.maxRecordsPerBatch": "0",
            "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
            "spark.sql.parquet.compression.codec": "zstd",
            "spark.sql.maxConcurrentOutputFileWriters": "8",  # no sort by the partition column
            "spark.sql.streaming.stateStore.providerClass": "org.apache.spark.sql.execution.streaming.state."
            "RocksDBStateStoreProvider",
            "spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled": "true",
            "spark.sql.streaming.stateStore.rocksdb.trackTotalNumberOfRows": "false",
            "spark.sql.streaming.stateStore.rocksdb.compression": "none",
            "spark.sql.streaming.stateStore.formatValidation.enabled": "false",
            "spark.sql.streaming.noDataMicroBatches.enabled": "false",
            "spark.sql.streaming.minBatchesToRetain": "10",
            "spark.databricks.delta.snapshotPartitions": "1",
            "spark.sql.codegen.cache.maxEntries": "2000",
            "spark.hadoop.fs.s3a.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem",
            "spark.hadoop.fs.s3a.endpoint": o.endpoint,
            "spark.hadoop.fs.s3a.access.key": os.environ["SPARK_S3_ACCESS_KEY"],
            "spark.hadoop.fs.s3a.secret.key": os.environ["SPARK_S3_SECRET_KEY"],
            "spark.hadoop.fs.s3a.path.style.access": "true",
            "spark.hadoop.fs.s3a.connection.ssl.enabled": "false",
            "spark.hadoop.fs.s3a.fast.upload.buffer": "array",
            "spark.hadoop.fs.s3a.directory.marker.retention": "keep",
        }.items()
    )
    for c in UNLIKE:
        conf.set("spark.hadoop.parquet.enable.dictionary#" + c, "false")
    for c in o.conf:
        conf.set(*c.split("=", 1))
    s = SparkSession.builder.config(conf=conf).getOrCreate()
    s.sparkContext.setLogLevel("WARN")
    return s


def held(name, most):
    return f"coalesce(least(greatest(cast(m.{name} as double), 0D), {most}), 0D)"


def unix(t):
    """Seconds of a time in seconds, milliseconds, microseconds or nanoseconds, or in a form of RFC 3339."""
    n = f"coalesce(cast({t} as bigint), cast(cast({t} as decimal(38, 9)) as bigint))"
    units = " ".join(
        f"when {n} >= 1{'0' * zeros} then {n} div 1{'0' * unit}" for zeros, unit in ((17, 9), (14, 6), (11, 3))
    )
    return f"case {units} else coalesce({n}, cast(cast({t} as timestamp) as bigint)) end"


def user_hash(spark, column):
    """XXH64 with the seed 0 and the top bit set; Spark's SQL has another seed."""
    jvm = spark._jvm
    value = jvm.PythonUtils.toSeq([F.col(column)._jc.expr()])
    hashed = Column(jvm.org.apache.spark.sql.Column(jvm.org.apache.spark.sql.catalyst.expressions.XxHash64(value, 0)))
    return hashed.bitwiseOR(F.lit(-(2**63)))


def sessions(spark, o):
    """The streaming query's frame: one row per touched session."""
    text = [f"coalesce(e.{c}, '') {c}" for c in ["category", "article_id", "article_title", "page_url"] + DIMENSIONS]
    events = (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", o.brokers)
        .option("subscribe", o.topic)
        .option("startingOffsets", "earliest")
        .option("maxOffsetsPerTrigger", o.max_offsets)
        .option("kafka.max.partition.fetch.bytes", 8 << 20)
        .option("kafka.fetch.max.bytes", 64 << 20)
        .option("kafka.max.poll.records", 20000)
        .option("kafka.receive.buffer.bytes", 1 << 20)
        .load()
        # One number orders the positions, for partitions below 2^15 and offsets below 2^48.
        .select(
            F.expr("shiftleft(cast(partition as bigint), 48) | offset").alias("pos"),
            F.expr(f"from_json(cast(value as string), '{EVENT}')").alias("e"),
        )
        .selectExpr(
            "pos",
            "e.event_id",
            "e.session_id",
            "coalesce(e.user_id, '') user",
            "cast(e.user_id as bigint) number",
            "e.event_type type",
            "e.engagement_metrics metrics",
            f"{unix('e.timestamp')} ts",
            *text,
        )
        # A user is a number, in one form, or a text, or nobody: 0.
        .withColumn("user_key", F.expr("if(cast(number as string) <=> user, '', user)"))
        .withColumn("user_id", F.when(F.expr("user_key <> ''"), user_hash(spark, "user")).otherwise(F.expr("number")))
        .selectExpr(
            "*",
            f"if(type in ('article_view', 'video_play', 'ad_click'), from_json(metrics, '{METRICS}'), null) m",
            "type <> 'session_end' counted",
            f"case {' '.join(f'when type = {t!r} then {i}' for i, t in enumerate(TYPES))} else -1 end code",
        )
        .selectExpr(
            "*",
            f"if(type = 'article_view', cast({held('scroll_depth', '100D')} as int), 0) scroll",
            f"if(type = 'article_view', cast({held('read_progress', '100D')} as int), 0) progress",
            "type = 'article_view' and coalesce(m.is_article_complete in ('true', '1'), false) complete",
            "if(counted and user_id <> 0, user_id, null) known_id",
            # What is summed up for the type: seconds on the page, seconds watched or millionths of revenue.
            f"case when type = 'article_view' then cast({held('time_on_page', '1e9')} as bigint)"
            f"  when type = 'video_play' then cast({held('playback_position', '1e9')} as bigint)"
            f"  when type = 'ad_click' then cast(floor({held('ad_revenue', '1e6')} * 1e6 + 0.5D) as bigint)"
            " else 0L end value",
        )
        .selectExpr(
            "session_id",
            "code",
            "counted",
            "scroll",
            "progress",
            "complete",
            "value",
            "known_id",
            "if(counted, ts, null) ts",
            "named_struct('pos', pos, 'ts', ts, 'brand', brand) opened",
            "if(known_id is null, null, named_struct('ts', ts, 'pos', pos, 'id', known_id, 'key', user_key)) known",
            "if(counted, named_struct('ts', ts, 'pos', pos,"
            f" {', '.join(repr(d) + ', ' + d for d in DIMENSIONS)}), null) first",
            # Along with the object of page_events: its members from Spark, the metrics as they came.
            "if(counted, named_struct('ts', ts, 'pos', pos, 'id', xxhash64(event_id), 'code', code, 'scroll', scroll,"
            " 'value', value, 'complete', complete, 'other', if(code < 0, type, ''),"
            "  'category', category, 'article_id', article_id, 'title', article_title, 'page',"
            f"  concat('{{\"engagement_metrics\":', if(octet_length(metrics) > {MOST_METRICS},"
            "   'null,\"engagement_metrics_omitted\":true', coalesce(metrics, 'null')), ',',"
            " cast(substring(cast(to_json(named_struct('event_type', type,"
            "  'category', category, 'article_id', article_id, 'article_title', article_title, 'page_url', page_url,"
            " 'timestamp', ts)) as binary), 2) as string))), null) item",
        )
    )
    frame = (
        events.groupBy("session_id")
        .agg(
            F.min("opened").alias("opened"),
            F.min("first").alias("first"),
            F.max("ts").alias("last"),
            F.count("ts").alias("total_events"),
            *[F.expr(f"count_if(code = {i})").alias(c) for i, c in enumerate(COUNTED)],
            F.expr("count_if(counted and code < 0)").alias("other_events"),
            F.expr("count_if(complete)").alias("articles_completed"),
            F.min("known").alias("known"),
            F.min("known_id").alias("least_user"),
            F.max("known_id").alias("greatest_user"),
            F.expr("bool_or(not counted)").alias("ended"),
            F.expr("sort_array(collect_list(item))").alias("items"),
            *[F.expr(f"sum(if(code = {TYPES.index(t)}, value, 0L))").alias(c) for c, t in SUMMED.items()],
            F.max("scroll").alias("max_scroll_depth"),
            F.max("progress").alias("max_read_progress"),
        )
        .where("total_events > 0")
        # Sums and counts grow with each event, and are right as long as no event is there twice. Few sessions have such
        # an event, and only those are counted again from their lists. A repeated event changes no minimum or maximum.
        .selectExpr("*", "size(array_distinct(items.id)) < size(items) twice")
        .selectExpr(
            "*", "if(twice, filter(items, x -> not exists(items, y -> y.id = x.id and y.pos < x.pos)), items) events"
        )
        .selectExpr(
            "*",
            "array_remove(events.category, '') categories",
            "array_remove(events.article_id, '') articles",
            "array_remove(events.title, '') titles",
        )
    )

    def counted(c, anew):
        return f"if(twice, {anew}, {c}) {c}"

    return frame.selectExpr(
        "session_id",
        "coalesce(known.id, 0L) user_id",
        "coalesce(known.key, '') user_key",
        "if(least_user <> greatest_user, 1, 0) several_users",
        *["first." + d for d in DIMENSIONS],
        "first.ts session_start",
        "last session_end",
        "last - first.ts session_duration_sec",
        counted("total_events", "cast(size(events) as bigint)"),
        *[counted(c, f"cast(size(filter(events, x -> x.code = {i})) as bigint)") for i, c in enumerate(COUNTED)],
        counted("other_events", "cast(size(filter(events, x -> x.code < 0)) as bigint)"),
        "to_json(categories) categories_visited",
        "to_json(articles) article_ids_visited",
        "to_json(titles) article_titles_visited",
        "cast(size(articles) as bigint) pages_visited_count",
        "cast(size(array_distinct(articles)) as bigint) unique_pages_count",
        "cast(size(array_distinct(categories)) as bigint) unique_categories_count",
        "concat('[', array_join(events.page, ','), ']') page_events",
        *[
            counted(c, f"aggregate(events, 0L, (sum, x) -> sum + if(x.code = {TYPES.index(t)}, x.value, 0L))")
            for c, t in SUMMED.items()
        ],
        "max_scroll_depth",
        "max_read_progress",
        counted("articles_completed", "cast(size(filter(events, x -> x.complete)) as bigint)"),
        "if(ended, 'closed', 'open') status",
        "0 revision",
        "nullif(opened.brand, '') opening_brand",
        "date_from_unix_date(cast(opened.ts div 86400 as int)) session_date",
        "concat(shiftright(opened.pos, 48), '/', opened.pos & 281474976710655) origin",
        # Only for ClickHouse: for page_analytics and the rollups.
        "events.code codes",
        "transform(filter(events, x -> x.code < 0), x -> x.other) others",
        "events.article_id articles",
        "events.title titles",
        "events.category categories",
        "opened.pos opened",
    )


class Sinks:
    """Writes a batch to both sinks, and a progress line."""

    def __init__(self, spark, o, name, progress):
        self.spark, self.o, self.progress = spark, o, progress
        self.table = f"s3a://{o.bucket}/{o.prefix}{name}/sessions"
        self.checkpoint = os.path.join(o.dir, "checkpoint" + name)
        self.seen = 0  # events that are in both sinks
        self.failed = None
        self.click = Click(o.clickhouse, o.clickhouse_user, o.database + name)
        self.fs = spark._jvm.org.apache.hadoop.fs.Path(self.table).getFileSystem(spark._jsc.hadoopConfiguration())

    def write(self, frame, batch):
        try:
            self.both(frame, batch)
        except BaseException as e:
            self.failed = e
            raise

    def both(self, frame, batch):
        now = time.time()
        frame.persist(StorageLevel.MEMORY_AND_DISK)
        blocks = frame._collect_as_arrow()  # computes the batch and its state
        rows = sum(b.num_rows for b in blocks)
        result = {}
        click = threading.Thread(target=self.to_clickhouse, args=(blocks, batch, now, result))
        click.start()
        del blocks
        try:
            # A number that changes would be in the generated code, which would be compiled again for every batch; a
            # text is not in it.
            def number(n):
                return f"cast(concat('{n}', substring(session_id, 1, 0)) as bigint)"

            (
                frame.select([c for c, _ in SESSIONS if c not in ("batch_id", "created_at")])
                .withColumns(
                    {
                        "session_start": F.expr("timestamp_seconds(session_start)"),
                        "session_end": F.expr("timestamp_seconds(session_end)"),
                        "batch_id": F.expr(number(batch + 1)),
                        "created_at": F.expr(f"timestamp_millis({number(int(now * 1000))})"),
                    }
                )
                .write.format("delta")
                .mode("append")
                .partitionBy("session_date")
                .option("delta.dataSkippingStatsColumns", STATISTICS)
                .option("txnAppId", "sessions")
                .option("txnVersion", batch)
                .save(self.table)
            )
        finally:
            click.join()
        if "error" in result:
            raise RuntimeError("insert into ClickHouse failed") from result["error"]
        frame.unpersist(blocking=False)
        ended = time.time_ns()
        events = self.events(batch)
        written = {
            "delta.sessions": (rows, self.committed(batch)),
            **{"clickhouse." + t: w for t, w in result["written"].items()},
        }
        report(
            self.progress,
            batch=batch,
            ended_unix_ns=ended,
            events=events,
            written={t: {"rows": r, "bytes": b} for t, (r, b) in written.items()},
        )
        self.seen = events

    def to_clickhouse(self, blocks, batch, now, result):
        try:
            before = self.ends(batch - 1) if batch > 0 else {}
            starts = np.zeros(1 + max(map(int, self.ends(batch))), dtype=np.int64)
            for partition, offset in before.items():
                starts[int(partition)] = offset
            result["written"] = self.click.write(blocks, batch + 1, now, starts)
        except BaseException as e:
            result["error"] = e

    def events(self, batch):
        """The events up to the end of a batch; the topic begins at 0."""
        return sum(self.ends(batch).values())

    def ends(self, batch):
        """The offsets at which a batch ends, by partition: Spark has written them before it began the batch."""
        with open(os.path.join(self.checkpoint, "offsets", str(batch))) as f:
            return json.loads(f.read().splitlines()[-1])[self.o.topic]

    def committed(self, batch):
        """Bytes of the files that the batch added: only this job writes, so that each batch is one version."""
        jvm = self.spark._jvm
        stream = self.fs.open(jvm.org.apache.hadoop.fs.Path(f"{self.table}/_delta_log/{batch:020d}.json"))
        try:
            text = jvm.org.apache.commons.io.IOUtils.toString(stream, "UTF-8")
        finally:
            stream.close()
        return sum(json.loads(line).get("add", {}).get("size", 0) for line in text.splitlines())


def report(file, **line):
    file.write(json.dumps(line) + "\n")


def run(spark, o, sinks, events, stopped):
    """Runs the query until this many events are in both sinks, or it is told to stop; returns its error."""
    sinks.click.create()
    query = (
        sessions(spark, o)
        .writeStream.outputMode("update")
        .foreachBatch(sinks.write)
        .trigger(processingTime=o.trigger)
        .option("checkpointLocation", sinks.checkpoint)
        .start()
    )
    while not stopped.wait(0.1):
        if sinks.failed is not None or not query.isActive:
            break
        if events and sinks.seen >= events:
            break
    failed = sinks.failed or query.exception()
    if failed is None:
        query.stop()
    return failed


def main():
    o = options()
    os.makedirs(o.dir, exist_ok=True)
    os.environ.setdefault(
        "MALLOC_ARENA_MAX", "2"
    )  # for RocksDB: glibc's arenas, one per thread, would keep freed memory
    spark = session(o)
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    failed, warmed, rounds = None, 0, 0
    with open(o.progress, "a", buffering=1) as progress, open(os.devnull, "w") as nowhere:
        while failed is None and warmed < o.warm and not stopped.is_set():
            sinks = Sinks(spark, o, f"_warm{rounds}", nowhere)
            failed = run(spark, o, sinks, min(o.warm - warmed, o.events or o.warm), stopped)
            sinks.click.drop()
            # Otherwise the state of the last round stays in memory.
            spark._jvm.org.apache.spark.sql.execution.streaming.state.StateStore.stop()
            warmed, rounds = warmed + sinks.seen, rounds + 1
        if failed is None and not stopped.is_set():
            report(progress, batch=-1, ended_unix_ns=time.time_ns(), events=0, written={})
            failed = run(spark, o, Sinks(spark, o, "", progress), o.events, stopped)
    if failed is not None:
        traceback.print_exception(failed)
    jvm = spark.sparkContext._gateway.proc
    spark.stop()
    jvm.stdin.close()  # which ends the JVM
    try:
        jvm.wait(20)
    except subprocess.TimeoutExpired:  # RocksDB can hang after an error
        jvm.kill()
    return 0 if failed is None else 1


if __name__ == "__main__":
    sys.exit(main())
