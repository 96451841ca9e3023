"""Compares Deckle's tables with the ground truth through readers that nobody here wrote: delta-rs, DuckDB's Delta
extension, ClickHouse's own Delta reader, and SQL over ClickHouse's native protocol.

usage: python readers.py SETTINGS.json      prints one JSON object {reader: {table: {...}}}; exit code 1 if any differs
"""

import collections
import datetime
import glob
import json
import os
import sys

SESSION_TEXTS = """brand country city device_type device_os browser subscription_tier user_segment referrer timezone
status""".split()
SESSION_NUMBERS = """user_id session_duration_sec total_events article_views article_clicks video_plays
newsletter_signups ad_clicks searches subscription_prompts navigations pages_visited_count unique_pages_count
unique_categories_count time_on_page_sec video_watch_sec max_scroll_depth ad_revenue_micros""".split()
SESSION_JSON = "categories_visited article_ids_visited article_titles_visited page_events".split()
SESSION_TIMES = "session_start session_end".split()
SESSION_COLUMNS = ["session_id", "origin", "session_date"] + SESSION_TEXTS + SESSION_NUMBERS + SESSION_TIMES + SESSION_JSON
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
    out += [row[c] for c in SESSION_TEXTS]
    out += [int(row[c]) for c in SESSION_NUMBERS]
    out += [unix(row[c]) for c in SESSION_TIMES]
    out += [json.dumps(clean(json.loads(row[c])), sort_keys=True) for c in SESSION_JSON]
    return tuple(out)


class Truth:
    def __init__(self, paths):
        self.sessions, self.events, self.rows, self.duplicates, self.dead = {}, set(), [], 0, 0
        for path in paths:
            with open(path) as f:
                for line in f:
                    t = json.loads(line)
                    if t["kind"] == "session":
                        for partition, offset, _ in t["events"]:
                            self.events.add((partition, offset))
                        if t["total_events"]:
                            origin = t["origins"][0]
                            self.rows.append(t)
                            self.sessions[t["session_id"]] = session(t, origin["date"], origin["position"])

    def pages(self):
        out = {}
        for t in self.rows:
            for p in t["pages"]:
                key = (t["session_id"], t["origins"][0]["position"], p["article_id"], p["event_type"])
                out[key] = (p["visit_count"], t["user_id"], p["article_title"], p["category"])
        return out

    def rollup(self, dims):
        groups = collections.defaultdict(list)
        for t in self.rows:
            day = datetime.datetime.fromtimestamp(t["session_start"], datetime.timezone.utc).date().isoformat()
            groups[(day, *(t[d] for d in dims))].append(t)
        total = lambda ts, c: sum(t[c] for t in ts)
        return {
            k: (
                len(ts), len({t["user_id"] for t in ts}), round(total(ts, "session_duration_sec") / len(ts), 6),
                round(total(ts, "total_events") / len(ts), 6), total(ts, "article_views"), total(ts, "video_plays"),
                total(ts, "newsletter_signups"), total(ts, "ad_clicks"),
            )
            for k, ts in groups.items()
        }


def compare(want, got):
    """want: {key: value}; got: (key, value) one by one -> counts and a few examples."""
    seen, r = collections.Counter(), {"rows": 0, "missing": 0, "doubled": 0, "extra": 0, "different": 0, "examples": []}

    def note(kind, *what):
        r[kind] += 1
        if len(r["examples"]) < 5:
            r["examples"].append([kind, *map(str, what)])

    for key, value in got:
        r["rows"] += 1
        seen[key] += 1
        if key not in want:
            note("extra", key)
        elif seen[key] > 1:
            note("doubled", key)
        elif want[key] != value:
            note("different", key, [p for p in zip(SESSION_COLUMNS, want[key], value) if p[1] != p[2]]
                 if len(value) == len(SESSION_COLUMNS) else (want[key], value))
    for key in want:
        if not seen[key]:
            note("missing", key)
    r["equal"] = not (r["missing"] or r["doubled"] or r["extra"] or r["different"])
    return r


def sessions(truth, rows):
    return compare(truth.sessions, ((r["session_id"], session(r, r["session_date"], r["origin"])) for r in rows))


def events(truth, rows):
    return compare(dict.fromkeys(truth.events, ()), (((r["kafka_partition"], r["kafka_offset"]), ()) for r in rows))


def delta_rs(truth, s):
    from deltalake import DeltaTable

    options = {
        "AWS_ENDPOINT_URL": s["s3_endpoint"], "AWS_ACCESS_KEY_ID": s["s3_access_key"],
        "AWS_SECRET_ACCESS_KEY": s["s3_secret_key"], "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
    }

    def read(table, columns):
        data = DeltaTable(f"s3://{s['bucket']}/{table}", storage_options=options).to_pyarrow_dataset()
        for batch in data.to_batches(columns=columns, batch_size=10_000, batch_readahead=1, fragment_readahead=1):
            yield from batch.to_pylist()

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


ROLLUPS = {
    "session_summary": [], "brand_analytics": ["brand"], "device_analytics": ["device_type", "device_os", "browser"],
    "geographic_analytics": ["country", "city"], "subscription_analytics": ["subscription_tier", "user_segment"],
}
MEASURES = """total_sessions total_users avg_session_duration_sec avg_events_per_session total_article_views
total_video_plays total_newsletter_signups total_ad_clicks""".split()


def clickhouse_sql(truth, s):
    c, db = client(s), s["database"]
    out = {"session_metrics": sessions(truth, select(c, SESSION_COLUMNS, db + ".session_metrics"))}
    for view, dims in ROLLUPS.items():
        rows = select(c, ["date"] + dims + MEASURES, f"{db}.{view}")
        value = lambda r: tuple(round(float(r[m]), 6) if m.startswith("avg") else int(r[m]) for m in MEASURES)
        out[view] = compare(truth.rollup(dims), (((str(r["date"]), *(r[d] for d in dims)), value(r)) for r in rows))
    columns = "session_id origin article_id event_type visit_count user_id article_title category".split()
    rows = select(c, columns, db + ".page_analytics")
    out["page_analytics"] = compare(truth.pages(), ((tuple(r[k] for k in columns[:4]), tuple(r[k] for k in columns[4:])) for r in rows))
    return out


def main():
    with open(sys.argv[1]) as f:
        s = json.load(f)
    truth = Truth(s["truth"])
    out = {r.__name__: r(truth, s) for r in (delta_rs, duckdb, clickhouse_delta, clickhouse_sql)}
    print(json.dumps(out, indent=1))
    sys.exit(0 if all(t["equal"] for r in out.values() for t in r.values()) else 1)


main()
