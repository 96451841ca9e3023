"""What the job of job.py writes to ClickHouse: sessions, page_analytics and rollups of a batch, out of Arrow's columns.

Every table is a ReplacingMergeTree whose rows a repeated batch replaces by equal ones; the views of docs/schema.md read
them. The totals of the rollups are sums of what each batch added: the sessions as the batch left them, minus the same
sessions as it found them. How it found them is kept for open sessions, and otherwise read from ClickHouse.
"""

import os

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from clickhouse_driver import Client

DIMENSIONS = [
    "brand",
    "country",
    "city",
    "device_type",
    "device_os",
    "browser",
    "subscription_tier",
    "user_segment",
    "referrer",
    "timezone",
]
COUNTED = {
    "article_views": "article_view",
    "article_clicks": "article_click",
    "video_plays": "video_play",
    "newsletter_signups": "newsletter_signup",
    "ad_clicks": "ad_click",
    "searches": "search",
    "subscription_prompts": "subscription_prompt",
    "navigations": "navigation",
}
TYPES = list(COUNTED.values())  # an event's code is the position of its type, or -1

LOW, TEXT, N = "LowCardinality(String)", "String", "UInt32"
SESSIONS = (
    [("session_id", TEXT), ("user_id", "UInt64"), ("user_key", TEXT), ("several_users", "Nullable(UInt8)")]
    + [(d, TEXT if d in ("city", "referrer") else LOW) for d in DIMENSIONS]
    + [
        ("session_start", "DateTime('UTC')"),
        ("session_end", "DateTime('UTC')"),
        ("session_duration_sec", N),
        ("total_events", N),
    ]
    + [(c, N) for c in COUNTED]
    + [
        ("other_events", N),
        ("categories_visited", TEXT),
        ("article_ids_visited", TEXT),
        ("article_titles_visited", TEXT),
        ("pages_visited_count", N),
        ("unique_pages_count", N),
        ("unique_categories_count", N),
        ("page_events", TEXT),
        ("time_on_page_sec", "UInt64"),
        ("video_watch_sec", "UInt64"),
        ("max_scroll_depth", "UInt8"),
        ("max_read_progress", "Nullable(UInt8)"),
        ("articles_completed", "Nullable(UInt32)"),
        ("ad_revenue_micros", "UInt64"),
        ("status", "Enum8('open' = 1, 'closed' = 2, 'expired' = 3)"),
        ("revision", N),
        ("session_date", "Date"),
        ("origin", TEXT),
        ("opening_brand", "Nullable(String)"),
        ("batch_id", "UInt64"),
        ("created_at", "DateTime64(3, 'UTC')"),
    ]
)
PAGES = [
    ("session_id", TEXT),
    ("origin", TEXT),
    ("article_id", TEXT),
    ("event_type", LOW),
    ("visit_count", N),
    ("user_id", "UInt64"),
    ("article_title", TEXT),
    ("category", LOW),
    ("session_date", "Date"),
]

ROLLUPS = {
    "session_summary": [],
    "brand_analytics": ["brand"],
    "device_analytics": ["device_type", "device_os", "browser"],
    "geographic_analytics": ["country", "city"],
    "subscription_analytics": ["subscription_tier", "user_segment"],
}
KEYS = ["brand", "country", "city", "device_type", "device_os", "browser", "subscription_tier", "user_segment"]
TOTALS = {
    "duration_sec": "session_duration_sec",
    "events": "total_events",
    "article_views": "article_views",
    "video_plays": "video_plays",
    "newsletter_signups": "newsletter_signups",
    "ad_clicks": "ad_clicks",
}  # and sessions
ADDED = (
    [("rollup", LOW), ("date", "Date"), ("dim1", TEXT), ("dim2", TEXT), ("dim3", TEXT), ("sessions", "Int64")]
    + [(t, "Int64") for t in TOTALS]
    + [("batch_id", "UInt64")]
)

TABLES = {  # columns, order, partition
    "session_images": (SESSIONS, "session_id, origin", "toYYYYMM(session_date)"),
    "page_images": (
        PAGES + [("batch_id", "UInt64")],
        "session_id, origin, article_id, event_type",
        "toYYYYMM(session_date)",
    ),
    "rollups_added": (ADDED, "rollup, date, dim1, dim2, dim3, batch_id", "tuple()"),
}


def rollup_view(database, name):
    dims = ROLLUPS[name]
    stored = "".join(f", dim{i + 1} AS {d}" for i, d in enumerate(dims))
    own = "".join(f", toString({d}) AS {d}" for d in dims)
    keys = "".join(", " + d for d in dims)
    conversion = (
        ", sum(newsletter_signups) / sum(sessions) AS conversion_rate" if name == "subscription_analytics" else ""
    )
    none = ", ".join(f"toInt64(0) AS {t}" for t in ["sessions", *TOTALS])
    return (
        f"SELECT date{keys}, sum(sessions) AS total_sessions,"
        " uniqExactIf(user, is_session AND user != 0) AS total_users,"
        " total_users + countIf(is_session AND user = 0) AS total_visitors,"
        " sum(duration_sec) / sum(sessions) AS avg_session_duration_sec,"
        " sum(events) / sum(sessions) AS avg_events_per_session,"
        " sum(article_views) AS total_article_views, sum(video_plays) AS total_video_plays,"
        f" sum(newsletter_signups) AS total_newsletter_signups, sum(ad_clicks) AS total_ad_clicks{conversion} FROM ("
        f"SELECT date{stored}, {', '.join(['sessions', *TOTALS])}, toUInt64(0) AS user, false AS is_session"
        f" FROM {database}.rollups_added FINAL WHERE rollup = '{name}' UNION ALL"
        f" SELECT toDate(session_start, 'UTC') AS date{own}, {none}, user_id AS user, true AS is_session"
        f" FROM {database}.session_images FINAL) GROUP BY date{keys} HAVING sum(sessions) > 0"
    )


class Click:
    """One connection, used by one thread at a time."""

    def __init__(self, address, user, database):
        host, port = address.rsplit(":", 1)
        self.client = Client(
            host,
            port=int(port),
            user=user,
            password=os.environ["SPARK_CLICKHOUSE_PASSWORD"],
            compression="lz4",
            settings={"strings_as_bytes": True},
        )
        self.database = database
        self.live = {}  # what open sessions have counted for, by id
        self.counted = None  # the last batch whose rollups were stored when the job started

    def create(self):
        self.client.execute(f"CREATE DATABASE IF NOT EXISTS {self.database}")
        for name, (columns, order, partition) in TABLES.items():
            self.client.execute(
                f"CREATE TABLE IF NOT EXISTS {self.database}.{name} ({', '.join(f'{c} {t}' for c, t in columns)})"
                " ENGINE = "
                f"ReplacingMergeTree(batch_id) PARTITION BY {partition} ORDER BY ({order}) "
                "SETTINGS fsync_after_insert = 1, fsync_part_directory = 1"
            )
        views = {
            "session_metrics": f"SELECT {', '.join(c for c, _ in SESSIONS)} FROM {self.database}.session_images FINAL",
            "page_analytics": f"SELECT {', '.join(c for c, _ in PAGES)} FROM {self.database}.page_images FINAL",
        }
        for name, query in (views | {r: rollup_view(self.database, r) for r in ROLLUPS}).items():
            self.client.execute(f"CREATE OR REPLACE VIEW {self.database}.{name} AS {query}")
        self.counted = self.client.execute(f"SELECT max(batch_id) FROM {self.database}.rollups_added")[0][0]

    def drop(self):
        self.client.execute(f"DROP DATABASE {self.database}")

    def insert(self, table, columns):
        names = [c for c, _ in TABLES[table][0]]
        self.client.execute(
            f"INSERT INTO {self.database}.{table} ({', '.join(names)}) VALUES",
            [columns[c] for c in names],
            columnar=True,
        )

    def write(self, blocks, batch, now, starts):
        """Inserts a batch and removes its blocks from the list; starts are the batch's first offsets by partition.
        Returns the rows and bytes of each table. The rollups go first: they are computed from the images that the batch
        finds."""
        blocks[:] = [b for b in blocks if b.num_rows > 0]
        written = {"rollups": self.rollups(blocks, batch, starts), "session_metrics": (0, 0), "page_analytics": (0, 0)}
        while blocks:
            b = blocks.pop()
            stamps = {"batch_id": [batch] * b.num_rows, "created_at": [int(now * 1000)] * b.num_rows}
            self.insert(
                "session_images", {c: stamps[c] if c in stamps else column(b.column(c), t) for c, t in SESSIONS}
            )
            add(written, "session_metrics", b.num_rows, sum(b.column(c).nbytes for c, _ in SESSIONS if c not in stamps))
            self.insert("page_images", self.pages(b, batch, written))
        return written

    def pages(self, b, batch, written):
        """The columns of a block's rows of page_analytics: one row per session, article and type, with the texts of the
        first event."""
        lists = b.column("articles")
        article = lists.flatten()
        names, code = [t.encode() for t in TYPES], b.column("codes").flatten()
        others = b.column("others").flatten()  # the types of the events with code -1
        if len(others) > 0:
            d = others.dictionary_encode()
            code = code.to_numpy().copy()
            code[code < 0] = len(names) + d.indices.to_numpy()
            names += [t.encode() for t in d.dictionary.to_pylist()]
        events = pa.table(
            {
                "at": pc.list_parent_indices(lists),
                "article": article,
                "code": code,
                "n": pa.array(np.arange(len(article), dtype=np.int32)),
            }
        ).filter(pc.not_equal(article, ""))
        rows = (
            events.group_by(["at", "article", "code"], use_threads=False)
            .aggregate([("n", "min"), ("n", "count")])
            .combine_chunks()
        )
        at, first = rows["at"].to_numpy(), rows["n_min"].combine_chunks()
        texts = {
            "article_id": rows["article"].combine_chunks(),
            "article_title": b.column("titles").flatten().take(first),
            "category": b.column("categories").flatten().take(first),
        }

        def of_session(name):  # the same object for all rows of a session
            return np.array(column(b.column(name), dict(PAGES)[name]), dtype=object)[at].tolist()

        out = {c: column(texts[c], t) if c in texts else None for c, t in PAGES}
        out.update({c: of_session(c) for c in ("session_id", "origin", "user_id", "session_date")})
        out["event_type"] = np.array(names, dtype=object)[rows["code"].to_numpy()].tolist()
        out["visit_count"] = rows["n_count"].to_numpy().tolist()
        out["batch_id"] = [batch] * len(at)
        repeated = sum(b.column(c).nbytes for c in ("session_id", "origin")) / max(b.num_rows, 1) * len(at)
        add(written, "page_analytics", len(at), int(sum(t.nbytes for t in texts.values()) + repeated) + 15 * len(at))
        return out

    def rollups(self, blocks, batch, starts):
        """Inserts what the batch adds to the totals."""
        if not blocks:
            return 0, 0
        t = pa.Table.from_batches(blocks)
        new = pa.table(
            {
                "date": pc.cast(pc.divide(t["session_start"], 86400), pa.int32()),
                **{k: t[k] for k in KEYS},
                "sessions": pa.array(np.ones(t.num_rows, dtype=np.int64)),
                **{n: t[c] for n, c in TOTALS.items()},
            }
        )
        opened = t["opened"].to_numpy()
        was = np.nonzero((opened & (1 << 48) - 1) < starts[opened >> 48])[0]  # opened by an earlier batch
        ids = t["session_id"]
        before = self.before(ids.take(was).to_pylist(), batch)
        is_open = pc.equal(t["status"], "open")
        self.live.update(zip(ids.filter(is_open).to_pylist(), zip(*new.filter(is_open).to_pydict().values())))
        if batch <= self.counted:
            return 0, 0  # it was inserted before a crash
        both = new
        if before:
            old = pa.table(dict(zip(new.column_names, map(list, zip(*before)))), schema=new.schema)
            for i, name in enumerate(new.column_names):
                if name == "sessions" or name in TOTALS:
                    old = old.set_column(i, name, pc.negate(old[name]))
            both = pa.concat_tables([new, old])
        columns, sums = {c: [] for c, _ in ADDED}, ["sessions", *TOTALS]
        for name, dims in ROLLUPS.items():
            g = both.group_by(["date", *dims], use_threads=False).aggregate([(s, "sum") for s in sums])
            columns["rollup"] += [name.encode()] * g.num_rows
            columns["date"] += pc.cast(g["date"], pa.date32()).to_pylist()
            for i in range(3):
                columns[f"dim{i + 1}"] += column(g[dims[i]], TEXT) if i < len(dims) else [b""] * g.num_rows
            for s in sums:
                columns[s] += g[s + "_sum"].to_pylist()
        rows = len(columns["date"])
        columns["batch_id"] = [batch] * rows
        self.insert("rollups_added", columns)
        return rows, sum(map(len, columns["rollup"] + columns["dim1"] + columns["dim2"] + columns["dim3"])) + rows * (
            2 + 8 * (len(sums) + 1)
        )

    def before(self, ids, batch):
        """What each of the sessions has counted for so far."""
        found = {i: self.live.pop(i) for i in ids if i in self.live}
        missing = [i for i in ids if i not in found]
        for at in range(0, len(missing), 5000):
            rows = self.client.execute(
                f"SELECT session_id, toInt32(toDate(session_start, 'UTC')), {', '.join(KEYS)}, 1,"
                f" {', '.join(TOTALS.values())} FROM "
                f"{self.database}.session_images WHERE session_id IN %(ids)s AND batch_id < {batch} "
                "ORDER BY batch_id DESC LIMIT 1 BY session_id",
                {"ids": missing[at : at + 5000]},
            )
            found.update({r[0].decode(): tuple(v.decode() if isinstance(v, bytes) else v for v in r[1:]) for r in rows})
        return list(found.values())


def add(written, table, rows, size):
    written[table] = (written[table][0] + rows, written[table][1] + size)


def column(array, type_):
    """A list of the values that ClickHouse's driver takes fastest: bytes for texts, numbers, and seconds for times."""
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if pa.types.is_string(array.type) and not type_.startswith("Enum"):
        array = array.cast(pa.binary())
        if type_ == LOW:  # few objects, whose hashes are computed already
            d = array.dictionary_encode()
            return d.dictionary.to_numpy(zero_copy_only=False)[d.indices.to_numpy()].tolist()
    if pa.types.is_date(array.type):
        return array.to_pylist()
    if type_ == "UInt64":  # Spark has the same 64 bits with a sign
        return array.to_numpy().view(np.uint64).tolist()
    return array.to_numpy(zero_copy_only=False).tolist()
