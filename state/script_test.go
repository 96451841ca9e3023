package state

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/event"
	"deckle/schema"
	"deckle/schema/level"
)

// TestScripts runs the scripts of testdata/script, which can be read as documentation. Each has one shard with the
// partitions 0 and 1, and makes a segment of 100 bytes of events. Times are Unix seconds, written as seconds after t0 =
// 2026-01-01 00:00 UTC (in a rollup, that date is day 20454).
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/script", func(t *testing.T, path string) {
		sc := &script{fs: vfs.NewMem(), t: t}
		sc.open()
		defer func() {
			if err := sc.s.Close(); err != nil {
				t.Fatal(err)
			}
		}()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			sc.t = t
			return sc.run(d)
		})
	})
}

const t0 = 1767225600

type script struct {
	t     *testing.T
	fs    vfs.FS
	s     *Store
	index uint64
	next  map[int32]int64
}

func (sc *script) open() {
	s, err := Open(context.Background(), Options{FS: sc.fs, Dir: "shard", segmentBytes: 100})
	if err != nil {
		sc.t.Fatal(err)
	}
	sc.s = s
}

func (sc *script) apply(entry []byte) any {
	sc.t.Helper()
	sc.index++
	res, err := sc.s.Apply(sc.index, 1, entry)
	if err != nil {
		return err
	}
	samePeek(sc.t, sc.s)
	return res
}

func (sc *script) run(d *datadriven.TestData) string {
	var b strings.Builder
	out := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	num := func(key string, def int64) int64 {
		if !d.HasArg(key) {
			return def
		}
		var v int64
		d.ScanArgs(sc.t, key, &v)
		return v
	}
	sink := func() SinkID {
		i := slices.IndexFunc(sinkTable[:], func(s SinkSpec) bool { return s.Name == d.CmdArgs[0].Key })
		if i < 0 {
			sc.t.Fatalf("%s: unknown sink %s", d.Pos, d.CmdArgs[0].Key)
		}
		return SinkID(i)
	}
	switch d.Cmd {
	case "config":
		c := Config{
			ClusterID: "c", Pipeline: "p", Shards: 1, Topic: "web_clicks", Partitions: []int32{0, 1},
			Starts:      []int64{0, 0},
			Sinks:       []SinkID{SinkEvents, SinkSessions, SinkRevisions, SinkClickHouse, SinkDeadLetter},
			IdleTimeout: time.Duration(num("timeout", 1800)) * time.Second,
			Grace:       time.Duration(num("grace", 30)) * time.Second,
			Retention:   time.Duration(num("retention", 21600)) * time.Second, MaxTimers: int(num("timers", 5000)),
		}
		sc.next = map[int32]int64{}
		sc.apply(EncodeConfig(c))
	case "batch", "tick":
		e := sc.batch(d, num)
		switch res := sc.apply(AppendBatch(nil, e)).(type) {
		case *BatchResult:
			if res.Rejected {
				what := "rejected"
				if res.Why == BatchByList || res.Why == BatchByLevel {
					what += ": " + res.Why.String()
				}
				out("%s; next %v", what, offsets(res.Next))
				break
			}
			for _, r := range e.Batch.Ranges {
				sc.next[r.Partition] = r.To
			}
			out("applied %d, duplicates %d, left out %v, clock %s", res.Applied, res.Duplicates, res.Left,
				at(res.Clock))
		default:
			out("%v", res)
		}
	case "cut":
		res := sc.apply(EncodeCut(1e3*(t0+num("now", 0)), 0, 0)).(*CutResult)
		out("epoch %d: %d events, %d sessions", res.Epoch, res.Events, res.Sessions)
		if res.Epoch > 0 {
			if n, err := sc.s.EpochEvents(res.Epoch); n != res.Events || err != nil {
				out("but its stored number of events is %d, %v", n, err)
			}
		}
	case "level":
		switch res := sc.apply(EncodeLevel(1e3*(t0+num("now", 0)), level.Level(num("to", 2)))).(type) {
		case *CutResult:
			out("level %d, closed epoch %d with %d events", sc.s.Level(), res.Epoch, res.Events)
		default:
			out("%v", res)
		}
	case "rules":
		r := DefaultRules()
		r.Number, r.Revision = uint32(num("number", 1)), uint64(num("revision", 0))
		r.MaxSessionBytes = num("max_bytes", 0)
		if i := slices.IndexFunc(d.CmdArgs, func(a datadriven.CmdArg) bool { return a.Key == "values" }); i >= 0 {
			r.Event.Letters.Values = event.LetterValues(d.CmdArgs[i].Vals[0])
		}
		res := sc.apply(EncodeRules(1e3*(t0+num("now", 0)), r)).(*CutResult)
		out("rules %d, closed epoch %d with %d events", sc.s.View().Rules.Number, res.Epoch, res.Events)
	case "skip":
		p := int32(num("partition", 0))
		g := &Gap{Partition: p, From: num("from", sc.next[p]), To: num("to", 0), At: 1e3 * (t0 + num("now", 0)),
			By: "n", Reason: "test"}
		res := sc.apply(EncodeSkip(g)).(*SkipResult)
		if res.Rejected {
			out("rejected; next %d", res.Next)
			break
		}
		sc.next[p] = res.Next
		of := sc.s.View().Gaps[p]
		out("next %d, in epoch %d; %d gaps with %d offsets", res.Next, res.Epoch, of.Count, of.Offsets)
	case "skip-events":
		p := int32(num("partition", 0))
		g := &Gap{Partition: p, From: num("from", 0), To: num("to", 0), At: 1e3 * (t0 + num("now", 0)), By: "n",
			Reason: "test"}
		res := sc.apply(EncodeSkipEvents(g)).(*EventsSkipResult)
		of := sc.s.View().EventGaps[p]
		what := fmt.Sprintf("%d offsets given up", res.Offsets)
		if res.Rejected {
			what = "rejected"
		}
		out("%s; [%d, %d) is not acknowledged; %d gaps with %d offsets", what, res.From, res.To, of.Count, of.Offsets)
	case "partitions":
		e := &PartitionsEntry{From: int32(num("from", 0)), Have: int32(num("have", 0)), Count: int32(num("count", 0))}
		for _, a := range d.CmdArgs {
			if a.Key == "starts" {
				for _, v := range a.Vals {
					o, err := strconv.ParseInt(v, 10, 64)
					must(sc.t, err)
					e.Starts = append(e.Starts, o)
				}
			}
		}
		res := sc.apply(EncodePartitions(e)).(*PartitionsResult)
		v := sc.s.View()
		for _, p := range v.Partitions { // a batch of the script begins where its partition does
			sc.next[p.Partition] = p.Next
		}
		out("%s: %d added, count %d; reads %v from %v, founded with %d, next %v", res.Refused, res.Added, res.Count,
			v.Config.Partitions, v.Config.Starts, v.Founded, offsets(v.Partitions))
	case "suppress", "unsuppress":
		sc.suppress(d, num, out)
	case "listed":
		page, list, err := sc.s.Listings(nil, 100)
		must(sc.t, err)
		for i := range page {
			out("%s %x at %s by %s", page[i].Kind, page[i].Hash[:4], at(page[i].At/1000), page[i].By)
		}
		c := sc.s.View().RuleCounts
		out("list %d with %d; left out %d by user, %d by session", list.Number, list.Len(), c.SuppressedUsers,
			c.SuppressedSessions)
	case "plan":
		res := sc.apply(EncodePlan(sink(), uint64(num("max", 1<<40)))).(*PlanResult)
		out("(%d, %d]", res.A, res.B)
	case "plan-level": // of the sink's outstanding plan
		p, err := sc.s.OpenPlan(sink())
		must(sc.t, err)
		out("level %d, rules %d", p.Level, p.Rules.Number)
		for _, e := range p.Epochs {
			out("epoch %d: level %d, rules %d, letters %q", e.Epoch, e.Level, e.Rules,
				p.RulesAt(e.Epoch).Event.Letters.Values)
		}
		must(sc.t, p.Close())
	case "epochs": // what is known of the levels and rules of the closed epochs
		for e := uint64(1); e <= sc.s.meta.LastClosed; e++ {
			rules := sc.s.meta.rulesOf(e)
			out("epoch %d: level %d, rules %d, letters %q, boundary %d", e, sc.s.meta.levelOf(e), rules.Number,
				rules.Event.Letters.Values, sc.s.meta.boundary(e))
		}
	case "ack":
		sc.apply(EncodeAck(sink(), uint64(num("b", 0))))
		p := sc.s.View().Sinks[sink()]
		out("acked %d, plan (%d, %d]", p.Acked, p.PlanA, p.PlanB)
	case "refuse":
		sc.apply(EncodeRefuse(sink(), d.CmdArgs[1].Key+"\x00"+d.CmdArgs[2].Key, []byte(`{"row":1}`),
			"value too large", sc.s.View().Level))
	case "horizon":
		sc.apply(EncodeHorizon(t0 + num("to", 0)))
		out("horizon %s", at(sc.s.View().Horizon))
	case "read":
		sc.read(sink(), out)
	case "view":
		v := sc.s.View()
		out("clock %s, horizon %s, epoch %d open, %d closed", at(v.Clock), at(v.Horizon), v.OpenEpoch, v.LastClosed)
		out("live %d, open %d, applied %d (counted %d), duplicates %d, nulls %d, timers due %t", v.LiveSessions,
			v.OpenStatus, v.Applied, v.Counted, v.Duplicates, v.Nulls, v.TimersDue)
		for _, r := range event.Reasons() {
			if n := v.DeadLetters[r]; n > 0 {
				out("dead letters %s %d", r, n)
			}
		}
	case "rollups":
		must(sc.t, sc.s.Rollups(func(r *schema.RollupRow) error { printRollup(out, r); return nil }))
	case "session":
		row, ok, err := sc.s.Session(d.CmdArgs[0].Key)
		must(sc.t, err)
		if !ok {
			out("none")
			break
		}
		printRow(out, row)
		if d.HasArg("full") {
			out("categories %s\narticles %s\ntitles %s\npages %s", row.Categories, row.ArticleIDs, row.ArticleTitles,
				row.PageEvents)
			for _, p := range row.Pages {
				out("page %s %s %q %q %d", p.ArticleID, p.Type, p.ArticleTitle, p.Category, p.Count)
			}
		}
	case "checkpoint":
		must(sc.t, sc.s.Checkpoint(context.Background()))
	case "images": // what Pebble holds: the images without those that the next checkpoint deletes
		must(sc.t, scan(sc.s.db, []byte{prefixImage}, []byte{prefixImage + 1}, func(k, _ []byte) error {
			sid, origin, err := decodeRowKey(k[9:])
			if !contains(sc.s.pendingDeletes, string(k)) {
				out("%s %d/%d of epoch %d", sid, origin.Partition, origin.Offset, k[8])
			}
			return err
		}))
	case "dates": // of which the state knows that sessions are counted on them
		for _, date := range slices.Sorted(maps.Keys(sc.s.meta.Dates)) {
			out("%d: %d sessions", date, sc.s.meta.Dates[date].Live)
		}
	case "segments": // what Pebble holds, without those that the next checkpoint deletes
		must(sc.t, scan(sc.s.db, []byte{prefixSegment}, []byte{prefixSegment + 1}, func(k, v []byte) error {
			sid, origin, err := decodeRowKey(k[1 : len(k)-4])
			if !contains(sc.s.pendingRanges, string(k[:len(k)-4])) {
				out("%s %d/%d number %d: %d bytes", sid, origin.Partition, origin.Offset, k[len(k)-1], len(v))
			}
			return err
		}))
	case "next": // the stored next offsets, and what is known of the gaps
		v := sc.s.View()
		out("next %v, gaps %v", offsets(v.Partitions), v.Gaps)
	case "store": // what a checkpoint writes: how many keys of each kind, and a hash of their bytes
		must(sc.t, sc.s.Checkpoint(context.Background()))
		sum, count := sha256.New(), map[byte]int{}
		must(sc.t, scan(sc.s.db, []byte{0}, []byte{255}, func(k, v []byte) error {
			count[k[0]]++
			fmt.Fprintf(sum, "%x %x\n", k, v)
			return nil
		}))
		for _, kind := range slices.Sorted(maps.Keys(count)) {
			out("%c: %d keys", kind, count[kind])
		}
		out("SHA-256 %x", sum.Sum(nil))
	case "reopen": // as after a crash: at the last durable checkpoint, with nothing applied again
		must(sc.t, sc.s.Close())
		sc.open()
		sc.index, _ = sc.s.Applied()
		out("at index %d", sc.index)
	default:
		sc.t.Fatalf("%s: unknown command %s", d.Pos, d.Cmd)
	}
	return b.String()
}

// batch reads lines of the forms "partition/offset session type at=.. id=.. key=value", "partition/offset reject
// reason" and "partition/offset null".
func (sc *script) batch(d *datadriven.TestData, num func(string, int64) int64) *BatchEntry {
	e := &BatchEntry{
		Now: 1e3 * (t0 + num("now", 1<<30)), Elapsed: time.Duration(num("elapsed", 0)) * time.Second,
		Level: level.Level(num("level", int64(sc.s.View().Level))),
	}
	if e.Level >= level.Real {
		e.Batch.Rules = uint32(num("rules", int64(sc.s.View().Rules.Number)))
	}
	if e.Level >= level.Guarded {
		e.Batch.List = uint64(num("list", int64(sc.s.Suppression().Number)))
	}
	list := func(key string) (ps []int32) {
		i := slices.IndexFunc(d.CmdArgs, func(a datadriven.CmdArg) bool { return a.Key == key })
		if i < 0 {
			return nil
		}
		for p := range strings.SplitSeq(d.CmdArgs[i].Vals[0], "+") {
			n, err := strconv.Atoi(p)
			must(sc.t, err)
			ps = append(ps, int32(n))
		}
		return ps
	}
	e.Idle, e.Out = list("idle"), list("out")
	head := list("head")
	last, kafka := map[int32]int64{}, map[int32]int64{}
	for line := range strings.Lines(d.Input) {
		f := strings.Fields(line)
		var p int32
		var o int64
		_, err := fmt.Sscanf(f[0], "%d/%d", &p, &o)
		must(sc.t, err)
		if _, seen := last[p]; !seen {
			e.Batch.Ranges = append(e.Batch.Ranges, event.Range{Partition: p, From: num("from", sc.next[p]), To: o + 1})
		}
		last[p] = o
		e.Batch.Ranges[len(e.Batch.Ranges)-1].To = o + 1
		switch f[1] {
		case "null":
			e.Batch.Nulls++
		case "suppressed": // by a user or a session, kafka=..
			by := event.SuppressUser
			if f[2] == "session" {
				by = event.SuppressSession
			}
			e.Batch.Suppressed = append(e.Batch.Suppressed, event.SuppressedRecord{Partition: p, Offset: o, By: by})
			if len(f) > 3 {
				n, err := strconv.ParseInt(strings.TrimPrefix(f[3], "kafka="), 10, 64)
				must(sc.t, err)
				kafka[p] = max(kafka[p], 1e3*(t0+n))
			}
		case "reject":
			reason := event.Reasons()[slices.IndexFunc(event.Reasons(),
				func(r event.Reason) bool { return r.String() == f[2] })]
			r := event.Reject{Partition: p, Offset: o, Reason: reason, Detail: "by the script", Length: 7}
			if len(f) > 3 {
				n, err := strconv.ParseInt(strings.TrimPrefix(f[3], "kafka="), 10, 64)
				must(sc.t, err)
				r.KafkaTimestamp = 1e3 * (t0 + n)
			}
			e.Batch.Rejects = append(e.Batch.Rejects, r)
		default:
			e.Batch.Items = append(e.Batch.Items, sc.item(p, o, f))
		}
	}
	if e.Level == level.First {
		return e
	}
	for _, r := range e.Batch.Ranges {
		seen := event.Seen{AtHead: slices.Contains(head, r.Partition), KafkaTime: kafka[r.Partition]}
		for _, it := range e.Batch.Items {
			if it.Partition == r.Partition {
				seen.KafkaTime = max(seen.KafkaTime, it.KafkaTimestamp)
			}
		}
		for _, rj := range e.Batch.Rejects {
			if rj.Partition == r.Partition {
				seen.KafkaTime = max(seen.KafkaTime, rj.KafkaTimestamp)
			}
		}
		e.Batch.Seen = append(e.Batch.Seen, seen)
	}
	return e
}

// suppress changes the list by the ids of its lines, "user 7" or "session s".
func (sc *script) suppress(d *datadriven.TestData, num func(string, int64) int64, out func(string, ...any)) {
	e := SuppressEntry{Now: 1e3 * (t0 + num("now", 0)), Op: SuppressAdd, Salt: event.Salt{byte(num("salt", 1))},
		By: "n1"}
	if d.Cmd == "unsuppress" {
		e.Op = SuppressRemove
	}
	l := event.NewLister(e.Salt)
	for line := range strings.Lines(d.Input) {
		f := strings.Fields(line)
		kind := event.SuppressUser
		if f[0] == "session" {
			kind = event.SuppressSession
		}
		x, err := l.Listing(kind, f[1])
		must(sc.t, err)
		e.Listings = append(e.Listings, x)
	}
	res := sc.apply(EncodeSuppress(&e)).(*SuppressResult)
	if res.Refused != SuppressTaken {
		out("refused: %d; list %d with %d", res.Refused, res.List.Number, res.List.Count)
		return
	}
	out("changed %d; list %d with %d", res.Changed, res.List.Number, res.List.Count)
}

func (sc *script) item(p int32, o int64, f []string) event.Item {
	typ, ok := event.ParseType(f[2])
	if !ok {
		sc.t.Fatalf("unknown type %s", f[2])
	}
	it := event.Item{Partition: p, Offset: o, Event: event.Event{SessionID: f[1], Type: typ, UserID: 7}}
	it.ID = event.ID{byte(p), byte(o >> 8), byte(o)}
	kts := int64(-1)
	for _, kv := range f[3:] {
		k, v, _ := strings.Cut(kv, "=")
		n, _ := strconv.ParseInt(v, 10, 64)
		switch k {
		case "at":
			it.Timestamp = t0 + n
		case "kafka":
			kts = n
		case "id":
			it.ID = event.ID{255, byte(n >> 8), byte(n)}
		case "user":
			it.UserID = uint64(n)
		case "measure":
			it.Measure = uint64(n)
		case "scroll":
			it.Scroll = uint8(n)
		case "brand":
			it.Brand = v
		case "country":
			it.Country = v
		case "category":
			it.Category = v
		case "article":
			it.ArticleID = v
		case "title":
			it.ArticleTitle = v
		case "omitted":
			it.MetricsOmitted = true
		case "metrics":
			it.EngagementMetrics = v
		default:
			sc.t.Fatalf("unknown field %s", k)
		}
	}
	it.KafkaTimestamp = 1e3 * it.Timestamp
	if kts >= 0 {
		it.KafkaTimestamp = 1e3 * (t0 + kts)
	}
	return it
}

func (sc *script) read(sink SinkID, out func(string, ...any)) {
	p, err := sc.s.OpenPlan(sink)
	if errors.Is(err, ErrNoPlan) {
		out("no plan")
		return
	}
	must(sc.t, err)
	out("plan (%d, %d]: ranges %v, left out %v", p.A, p.B, p.Ranges(), p.LeftOut())
	for _, e := range p.Epochs {
		for _, g := range e.Gaps {
			out("gap of epoch %d: partition %d, [%d, %d), %s: %s", e.Epoch, g.Partition, g.From, g.To, g.By, g.Reason)
		}
	}
	if given := p.Given(); len(given) > 0 {
		least, most := p.Rows()
		out("given up %v, to be fetched %v, %d to %d rows", given, p.Fetchable(), least, most)
	}
	if sink.reads(readsImages) {
		must(sc.t, p.Sessions(func(r *schema.SessionRow) error { printRow(out, r); return nil }))
	}
	if sink == SinkClickHouse {
		must(sc.t, p.Rollups(func(r *schema.RollupRow) error { printRollup(out, r); return nil }))
	}
	if sink == SinkDeadLetter {
		must(sc.t, p.DeadLetters(func(l *DeadLetter) error {
			out("letter %d: %d/%d %s: %s %q", l.Seq, l.Partition, l.Offset, l.Reason, l.Detail, l.RowKey)
			return nil
		}))
	}
	must(sc.t, p.Close())
}

func printRow(out func(string, ...any), r *schema.SessionRow) {
	out("%s %s %s rev %d: %d events %s..%s, user %d, brand %q, "+
		"scroll %d, time %d, revenue %d, epoch %d, first closed %d",
		r.SessionID, r.Origin, r.Status, r.Revision, r.TotalEvents, at(r.Start), at(r.End), r.UserID, r.Brand,
		r.MaxScrollDepth, r.TimeOnPageSec, r.AdRevenueMicros, r.Epoch, r.FirstClosed)
}

func printRollup(out func(string, ...any), r *schema.RollupRow) {
	out("%s %d %q: sessions %d, duration %d, events %d, views %d", r.Table, r.Date, r.Dims, r.Sessions, r.Duration,
		r.Events, r.Views)
}

func offsets(ps []PartitionStatus) (o []string) {
	for _, p := range ps {
		o = append(o, fmt.Sprintf("%d/%d", p.Partition, p.Next))
	}
	return o
}

func at(unix int64) string {
	if unix <= 0 {
		return "unset"
	}
	return fmt.Sprintf("%+d", unix-t0)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// decodeRowKey is the inverse of appendRowKey.
func decodeRowKey(b []byte) (sid string, origin Position, err error) {
	if len(b) < 1 || len(b) != 1+int(b[0])+originSize {
		return "", Position{}, fmt.Errorf("%w: row key %x", ErrCorrupt, b)
	}
	n := 1 + int(b[0])
	return string(b[1:n]), decodeOrigin(b[n:]), nil
}
