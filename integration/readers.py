"""Compares Deckle's tables with the ground truth through readers that nobody here wrote: delta-rs, DuckDB's Delta
extension, ClickHouse's own Delta reader, and SQL over ClickHouse's native protocol.

Without an S3 endpoint in the settings, the first two read the tables of a local folder, and the others do nothing.

usage: python readers.py SETTINGS.json      prints one JSON object {reader: {table: {...}}}; exit code 1 if any differs
"""

import datetime
import glob
import hashlib
import json
import os
import sys

SESSION_TEXTS = """user_key brand opening_brand country city device_type device_os browser subscription_tier user_segment referrer timezone
status""".split()
SESSION_NUMBERS = """several_users session_duration_sec total_events article_views article_clicks video_plays
newsletter_signups ad_clicks searches subscription_prompts navigations pages_visited_count unique_pages_count
unique_categories_count time_on_page_sec video_watch_sec max_scroll_depth ad_revenue_micros
other_events max_read_progress articles_completed""".split()
SESSION_JSON = "categories_visited article_ids_visited article_titles_visited page_events".split()
SESSION_TIMES = "session_start session_end".split()
SESSION_COLUMNS = ["session_id", "origin", "session_date", "user_id"] + SESSION_TEXTS + SESSION_NUMBERS + SESSION_TIMES + SESSION_JSON
EVENT_COLUMNS = ["kafka_partition", "kafka_offset"]


def unix(value):
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            value = value.replace(tzinfo=datetime.timezone.utc)
        return int(value.timestamp())
    return int(value)


def clean(value):
    """One form of the same JSON: a member that is null, empty or {} says no more than a missing one; 1.0 is 1."""
    if isinstance(value, list):
        return [clean(v) for v in value]
    if isinstance(value, dict):
        return {k: clean(v) for k, v in value.items() if v not in (None, "", {})}
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def session(row, date, origin):
    out = [row["session_id"], origin, str(date)]
    out += [row[c] or "" for c in SESSION_TEXTS]  # opening_brand may be null in a table
    out.append(int(row["user_id"]) % 2**64)  # Delta has the 64 bits with a sign
    out += [int(row[c]) for c in SESSION_NUMBERS]
    out += [unix(row[c]) for c in SESSION_TIMES]
    out += [json.dumps(clean(json.loads(row[c])), sort_keys=True) for c in SESSION_JSON]
    return tuple(out)


ROLLUPS = {
    "session_summary": [], "brand_analytics": ["brand"], "device_analytics": ["device_type", "device_os", "browser"],
    "geographic_analytics": ["country", "city"], "subscription_analytics": ["subscription_tier", "user_segment"],
}
MEASURES = """total_sessions total_users total_visitors avg_session_duration_sec avg_events_per_session total_article_views
total_video_plays total_newsletter_signups total_ad_clicks""".split()
ROLLUP_SUMS = """session_duration_sec total_events article_views video_plays newsletter_signups ad_clicks""".split()


def digest(value):
    """64 bits of a row: the truth of millions of events must leave room for those who read them."""
    return int.from_bytes(hashlib.blake2b(repr(value).encode(), digest_size=8).digest(), "little")


class Offsets:
    """How often each offset of each partition is there: wanted once, or seen."""

    def __init__(self):
        self.partitions = {}

    def add(self, partition, offset):
        counts = self.partitions.setdefault(partition, bytearray())
        if offset >= len(counts):
            counts.extend(bytes(offset + 1 - len(counts) + len(counts) // 2))
        counts[offset] = min(counts[offset] + 1, 255)
        return counts[offset]

    def get(self, partition, offset):
        counts = self.partitions.get(partition, b"")
        return counts[offset] if offset < len(counts) else 0

    def each(self):
        for partition, counts in self.partitions.items():
            for offset, n in enumerate(counts):
                if n:
                    yield partition, offset


class Truth:
    """What the tables must show. Of sessions and pages it keeps digests; describe reads the rows again."""

    def __init__(self, paths):
        self.paths, self.events, self.sessions, self.pages = paths, Offsets(), {}, {}
        self.rollups = {view: {} for view in ROLLUPS}
        for t in self.lines():
            for partition, offset, _ in t["events"]:
                if not self.events.get(partition, offset):
                    self.events.add(partition, offset)
            if t["total_events"]:
                key, value = self.session(t)
                self.sessions[key] = digest(value)
                for key, value in self.pages_of(t):
                    self.pages[digest(key)] = digest(value)
                self.count(t)

    def lines(self):
        for path in self.paths:
            with open(path) as f:
                for line in f:
                    t = json.loads(line)
                    if t["kind"] == "session":
                        yield t

    def session(self, t):
        first = t["origins"][0]
        t = {"opening_brand": first.get("brand"), **t}
        return t["session_id"], session(t, first["date"], first["position"])

    def pages_of(self, t):
        for p in t["pages"]:
            key = (t["session_id"], t["origins"][0]["position"], p["article_id"], p["event_type"])
            yield key, (p["visit_count"], t["user_id"], p["article_title"], p["category"])

    def count(self, t):
        day = datetime.datetime.fromtimestamp(t["session_start"], datetime.timezone.utc).date().isoformat()
        for view, dims in ROLLUPS.items():
            g = self.rollups[view].setdefault((day, *(t[d] for d in dims)), [set()] + [0] * (1 + len(ROLLUP_SUMS)))
            g[0].add(t["user_id"] or t["session_id"])  # 0 is nobody, but a visitor of its own in each session
            g[1] += 1
            for i, c in enumerate(ROLLUP_SUMS):
                g[2 + i] += t[c]

    def rollup(self, view):
        return {
            key: (n, sum(isinstance(u, int) for u in users), len(users), round(duration / n, 6), round(total / n, 6), *sums)
            for key, (users, n, duration, total, *sums) in self.rollups[view].items()
        }

    def describe(self, wanted):
        """The values of a few sessions or pages, whose keys or digests are given."""
        out = {}
        for t in self.lines():
            if t["total_events"]:
                key, value = self.session(t)
                if key in wanted:
                    out[key] = (key, value)
                for key, value in self.pages_of(t):
                    if digest(key) in wanted:
                        out[digest(key)] = (key, value)
        return out


EXAMPLES = 5


class Counts:
    """The outcome of one table's comparison, with a few examples."""

    def __init__(self):
        self.r = {"rows": 0, "missing": 0, "doubled": 0, "extra": 0, "different": 0, "examples": []}

    def note(self, kind, *what):
        self.r[kind] += 1
        if len(self.r["examples"]) < EXAMPLES:
            self.r["examples"].append([kind, *what])

    def end(self):
        r = self.r
        r["equal"] = not (r["missing"] or r["doubled"] or r["extra"] or r["different"])
        return r


def compare(want, got, describe=None):
    """want: {key: value}; got: (key, value, row) one by one -> counts and a few examples. describe(keys) -> {key: (row's key,
    row)} of the truth, if want has digests."""
    seen, c = set(), Counts()
    for key, value, *row in got:
        c.r["rows"] += 1
        if key not in want:
            c.note("extra", key, *row)
        elif key in seen:
            c.note("doubled", key, *row)
        elif want[key] != value:
            c.note("different", key, *(row or [value]))
        seen.add(key)
    for key in want:
        if key not in seen:
            c.note("missing", key)
    r, truth = c.end(), {}
    if describe and r["examples"]:
        truth = describe({e[1] for e in r["examples"]})
    for e in r["examples"]:
        want_key, want_row = truth.get(e[1], (e[1], want.get(e[1])))
        got_row = e[2] if len(e) > 2 else None
        if e[0] == "different" and len(got_row) == len(want_row) == len(SESSION_COLUMNS):
            e[1:] = [str(want_key), str([p for p in zip(SESSION_COLUMNS, want_row, got_row) if p[1] != p[2]])]
        else:
            e[1:] = [str(want_key), f"truth: {want_row}", f"table: {got_row}"]
    return r


def sessions(truth, rows):
    def got():
        for r in rows:
            value = session(r, r["session_date"], r["origin"])
            yield r["session_id"], digest(value), value

    return compare(truth.sessions, got(), truth.describe)


def events(truth, rows):
    seen, c = Offsets(), Counts()
    for r in rows:
        at = r["kafka_partition"], r["kafka_offset"]
        c.r["rows"] += 1
        if not truth.events.get(*at):
            c.note("extra", str(at))
        elif seen.add(*at) > 1:
            c.note("doubled", str(at))
    for at in truth.events.each():
        if not seen.get(*at):
            c.note("missing", str(at))
    return c.end()


def delta_rs(truth, s):
    import pyarrow
    from deltalake import DeltaTable, QueryBuilder

    options = "s3_endpoint" in s and {
        "AWS_ENDPOINT_URL": s["s3_endpoint"], "AWS_ACCESS_KEY_ID": s["s3_access_key"],
        "AWS_SECRET_ACCESS_KEY": s["s3_secret_key"], "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
    }

    def read(table, columns):
        where = f"s3://{s['bucket']}/{table}" if options else f"{s['mirror']}/{table}"
        t = DeltaTable(where, storage_options=options or None)
        if "deletionVectors" in (t.protocol().reader_features or []):  # which a dataset of pyarrow refuses
            names = ", ".join(f'"{c}"' for c in columns)
            batches = QueryBuilder().register("t", t).execute(f"SELECT {names} FROM t")
        else:
            batches = t.to_pyarrow_dataset().to_batches(columns=columns, batch_size=10_000, batch_readahead=1,
                                                        fragment_readahead=1)
        for batch in batches:
            yield from pyarrow.record_batch(batch).to_pylist()

    return {"sessions": sessions(truth, read("sessions", SESSION_COLUMNS)), "events": events(truth, read("events", EVENT_COLUMNS))}


def duckdb(truth, s):
    import duckdb
    import duckdb_extension_delta

    con = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    folder = os.path.dirname(duckdb_extension_delta.__file__)
    con.execute(f"LOAD '{glob.glob(folder + '/extensions/*/delta.duckdb_extension')[0]}'")
    con.execute("SET TimeZone = 'UTC'")

    def read(table, columns):
        cur = con.execute(f"SELECT {', '.join(columns)} FROM delta_scan('{s['mirror']}/{table}')")
        while rows := cur.fetchmany(10_000):
            yield from (dict(zip(columns, r)) for r in rows)

    return {"sessions": sessions(truth, read("sessions", SESSION_COLUMNS)), "events": events(truth, read("events", EVENT_COLUMNS))}


def client(s):
    from clickhouse_driver import Client

    host, port = s["clickhouse"].rsplit(":", 1)
    return Client(host, int(port), user=s["clickhouse_user"], password=s["clickhouse_password"])


def select(c, columns, source):
    return (dict(zip(columns, r)) for r in c.execute_iter(f"SELECT {', '.join(columns)} FROM {source}"))


def clickhouse_delta(truth, s):
    c = client(s)
    source = lambda t: f"deltaLake('{s['s3_endpoint']}/{s['bucket']}/{t}/', '{s['s3_access_key']}', '{s['s3_secret_key']}')"
    return {
        "sessions": sessions(truth, select(c, SESSION_COLUMNS, source("sessions"))),
        "events": events(truth, select(c, EVENT_COLUMNS, source("events"))),
    }


def clickhouse_sql(truth, s):
    c, db = client(s), s["database"]
    out = {"session_metrics": sessions(truth, select(c, SESSION_COLUMNS, db + ".session_metrics"))}
    for view, dims in ROLLUPS.items():
        rows = select(c, ["date"] + dims + MEASURES, f"{db}.{view}")
        value = lambda r: tuple(round(float(r[m]), 6) if m.startswith("avg") else int(r[m]) for m in MEASURES)
        out[view] = compare(truth.rollup(view), (((str(r["date"]), *(r[d] for d in dims)), value(r)) for r in rows))
    columns = "session_id origin article_id event_type visit_count user_id article_title category".split()

    def pages():
        for r in select(c, columns, db + ".page_analytics"):
            key, value = tuple(r[k] for k in columns[:4]), tuple(r[k] for k in columns[4:])
            yield digest(key), digest(value), value

    out["page_analytics"] = compare(truth.pages, pages(), truth.describe)
    return out


def main():
    with open(sys.argv[1]) as f:
        s = json.load(f)
    truth = Truth(s["truth"])
    readers = (delta_rs, duckdb, clickhouse_delta, clickhouse_sql) if "s3_endpoint" in s else (delta_rs, duckdb)
    out = {r.__name__: r(truth, s) for r in readers}
    print(json.dumps(out, indent=1))
    sys.exit(0 if all(t["equal"] for r in out.values() for t in r.values()) else 1)


main()
