package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/event"
	"deckle/node/config"
	"deckle/node/status"
	"deckle/schema"
	"deckle/sim"
	"deckle/sim/verify"
	"deckle/sinks/delta"
	"deckle/state"
)

// The tests of the files schedule_*_test.go are the schedules that are known to be hard: each item of docs/design.md,
// "Why exactly once holds" and §3 Horizon, Rollups and Clock, by name. Each runs a whole cluster, fills the topic
// itself, and says what the outcome must be. The oracle looks at everything meanwhile.

// stage is what a schedule works on.
type stage struct {
	*world
	ctx context.Context
	cl  *kgo.Client

	turn chan struct{} // held by the goroutine that sends: virtual time goes on while others wait for it
	ids  int
	ends map[int32]int64 // next offset of each partition
}

// errSchedule ends a script whose failure has been noted.
var errSchedule = errors.New("the schedule cannot go on")

// schedule runs a script on a cluster of one shard and two partitions, unless o says otherwise.
func schedule(t *testing.T, o Options, script func(s *stage)) *Result {
	t.Helper()
	t.Parallel()
	o.NoWorkload, o.Faults = true, -1
	if o.Shards == 0 {
		o.Shards = 1
	}
	if o.Partitions == 0 {
		o.Partitions = 2
	}
	if o.Seed == 0 {
		o.Seed = 1
	}
	tune := o.Tune
	o.Tune = func(cfg *config.Config) {
		cfg.Session = config.Session{IdleTimeout: 20 * time.Second, Grace: 2 * time.Second, Retention: 20 * time.Minute}
		cfg.Flush.Interval, cfg.Delta.RevisionInterval = time.Second, time.Second
		if tune != nil {
			tune(cfg)
		}
	}
	done := false
	o.Script = func(ctx context.Context, w *World) (err error) {
		defer func() {
			if r := recover(); r != nil {
				if e, ok := r.(error); !ok || !errors.Is(e, errSchedule) {
					panic(r)
				}
				err = errSchedule
			}
		}()
		w.truth = sim.NewTruth()
		w.truth.KeepRecords()
		w.truth.Begin(sim.Header{Topic: topic, Seed: o.Seed, Keyed: true})
		s := &stage{world: w, ctx: ctx, turn: make(chan struct{}, 1), ends: map[int32]int64{}}
		s.connect()
		defer func() { s.cl.Close() }()
		script(s)
		done = true
		return nil
	}
	r := simulate(t, o)
	for _, f := range r.Failures {
		t.Error(f)
	}
	if !done && len(r.Failures) == 0 {
		t.Error("the script did not run to its end")
	}
	return r
}

// connect gives the script a new producer.
func (s *stage) connect() {
	if s.cl != nil {
		s.cl.Close()
	}
	var err error
	s.cl, err = kgo.NewClient(append(s.kafkaOpts("script"), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(0),
		kgo.MaxBufferedRecords(1<<20))...)
	s.must(err)
}

// must ends the script if there is an error.
func (s *stage) must(err error) {
	if err != nil {
		s.history.fail("script: %v", err)
		panic(errSchedule)
	}
}

// check notes a failure and goes on.
func (s *stage) check(ok bool, format string, args ...any) {
	if !ok {
		s.history.fail(format, args...)
	}
}

// await waits until ok, or ends the script.
func (s *stage) await(limit time.Duration, what string, ok func() bool) {
	s.must(s.until(s.ctx, limit, what, ok))
}

func (s *stage) sleep(d time.Duration) { s.must(sim.Pause(s.ctx, d)) }

// ev is a record to be produced. Only sid and at are needed.
type ev struct {
	part  int32
	sid   string
	typ   string // default article_view
	at    time.Time
	kafka time.Time // Kafka timestamp; default at
	id    int       // of the event; default a new one
	brand string
	size  int    // bytes of page_url
	dead  string // the reason of the dead letter that it becomes: the truth believes it
	again bool   // the event of that id has been sent before in its session
}

// record makes the record, and its number.
func (s *stage) record(e *ev) *kgo.Record {
	if e.id == 0 {
		s.ids++
		e.id = s.ids
	}
	if e.typ == "" {
		e.typ = "article_view"
	}
	if e.kafka.IsZero() {
		e.kafka = e.at
	}
	m := map[string]any{"event_id": fmt.Sprintf("00000000-0000-4000-8000-%012x", e.id), "session_id": e.sid,
		"user_id": 7, "event_type": e.typ,
		"timestamp": e.at.Unix(), "article_id": fmt.Sprint("a", e.id%5)}
	if e.brand != "" {
		m["brand"] = e.brand
	}
	if e.size > 0 {
		m["page_url"] = s.noise(e.size)
	}
	value, err := json.Marshal(m)
	s.must(err)
	return &kgo.Record{Topic: topic, Partition: e.part, Key: []byte(e.sid), Value: value, Timestamp: e.kafka}
}

// noise is a text of the given length that no compression makes shorter than half.
func (s *stage) noise(n int) string {
	b := make([]byte, n)
	s.rng.with(func(r *rand.Rand) {
		for i := range b {
			b[i] = "abcdefghijklmnopqrstuvwxyz0123456789"[r.IntN(36)]
		}
	})
	return string(b)
}

// send produces records, waits until the broker has them, and adds them to the truth. It returns their positions.
func (s *stage) send(evs ...ev) []state.Position {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	recs := make([]*kgo.Record, len(evs))
	for i := range evs {
		recs[i] = s.record(&evs[i])
	}
	s.must(s.cl.ProduceSync(s.ctx, recs...).FirstErr())
	at := make([]state.Position, len(recs))
	for i, r := range recs {
		at[i] = state.Position{Partition: r.Partition, Offset: r.Offset}
		s.ends[r.Partition] = max(s.ends[r.Partition], r.Offset+1)
		rec := &sim.Record{Key: r.Key, Value: r.Value, SessionID: evs[i].sid}
		if evs[i].dead != "" {
			rec.SessionID, rec.Reason = "", evs[i].dead
		}
		if evs[i].again {
			rec.Kind = sim.KindDuplicate
		}
		s.truth.Sent(rec)
		s.truth.Acked(rec, r.Partition, r.Offset, r.Timestamp.UnixMilli())
	}
	return at
}

// produce sends three events of a new session now and then in the background, until the returned function is called;
// that returns how many sessions there are.
func (s *stage) produce(every time.Duration) (stop func() int) {
	ctx, cancel := context.WithCancel(s.ctx)
	n := 0
	var wg sync.WaitGroup
	wg.Go(func() {
		for ; sim.Pause(ctx, every) == nil; n++ {
			now, p, sid := time.Now(), int32(n)%s.opts.Partitions, fmt.Sprint("bg-", n)
			s.send(ev{part: p, sid: sid, at: now}, ev{part: p, sid: sid, at: now, typ: "video_play"},
				ev{part: p, sid: sid, at: now})
		}
	})
	return func() int { cancel(); wg.Wait(); return n }
}

// now is the time by whole seconds, as events have it.
func (s *stage) now() time.Time { return time.Now().Truncate(time.Second) }

// leading returns the member that leads the shard, waiting for one.
func (s *stage) leading(shard uint32) (m *member) {
	s.await(time.Minute, "a leader that runs", func() bool {
		m, _ = s.leaderNow(shard)
		return m != nil
	})
	return m
}

// status is the shard's status at its leader.
func (s *stage) status() status.Shard {
	_, st := s.leaderNow(0)
	return st
}

func (s *stage) view() state.View { return s.status().State }

// next is the next offset of a partition in the leader's state.
func (s *stage) next(p int32) int64 {
	for _, st := range s.view().Partitions {
		if st.Partition == p {
			return st.Next
		}
	}
	return -1
}

// applied waits until everything that was sent has been applied.
func (s *stage) applied() {
	s.await(2*time.Minute, "everything is applied", func() bool {
		for p, end := range s.ends {
			if s.next(p) < end {
				return false
			}
		}
		return true
	})
}

// flushed waits until every sink has everything that was applied.
func (s *stage) flushed(sinks ...state.SinkID) {
	s.applied()
	s.await(2*time.Minute, "everything is flushed", func() bool {
		v := s.view()
		for _, id := range v.Config.Sinks {
			if p := v.Sinks[id]; (len(sinks) == 0 || slices.Contains(sinks, id)) &&
				(p.Acked < v.LastClosed || p.PlanB > p.Acked) {
				return false
			}
		}
		return v.OpenEvents == 0 && v.OpenSessions == 0 && v.Configured
	})
}

// settle waits until nothing is left to do and compares everything with the truth.
func (s *stage) settle() *sim.Summary {
	sum, err := s.truth.Close()
	s.must(err)
	s.must(s.drain(s.ctx, &sum))
	s.must(s.oracle.final(s.ctx))
	return &sum
}

// row is a session as a sink shows it.
type row struct {
	origin, status string
	events         int
	revision       int
	start, end     int64
	brand          string
}

// rows returns the rows of a session in ClickHouse and in Delta, ascending by origin.
func (s *stage) rows(sid string) (click, dlt []row) {
	for _, r := range s.click.sessions() {
		if r.Text("session_id") == sid {
			click = append(click, row{r.Text("origin"), r.Text("status"), int(r.Uint("total_events")),
				int(r.Uint("revision")),
				int64(r.Uint("session_start")), int64(r.Uint("session_end")), r.Text("brand")})
		}
	}
	return click, s.deltaRows(sid)
}

func (s *stage) deltaRows(sid string) (out []row) {
	t, err := delta.OpenTable(s.ctx, s.objects.Mem, "sessions")
	s.must(err)
	s.must(t.ReadSessions(s.ctx, t.Snapshot().Files, func(r *schema.SessionRow) error {
		if r.SessionID == sid || sid == "" {
			out = append(out, row{r.Origin, r.Status.String(), int(r.TotalEvents), int(r.Revision), r.Start, r.End,
				r.Brand})
		}
		return nil
	}))
	slices.SortFunc(out, func(a, b row) int { return strings.Compare(a.origin, b.origin) })
	return out
}

// want waits until both sinks show exactly these rows of a session.
func (s *stage) want(sid string, rows ...row) {
	var click, dlt []row
	for end := time.Now().Add(3 * time.Minute); time.Now().Before(end); s.sleep(time.Second) {
		if click, dlt = s.rows(sid); slices.Equal(click, rows) && slices.Equal(dlt, rows) {
			return
		}
	}
	s.history.fail("session %s: want %+v, ClickHouse shows %+v, Delta %+v", sid, rows, click, dlt)
	panic(errSchedule)
}

// eventRows returns how many rows of table events there are.
func (s *stage) eventRows() (n int) {
	t, err := delta.OpenTable(s.ctx, s.objects.Mem, "events")
	s.must(err)
	return int(t.Snapshot().Records)
}

// letters returns the reason of each dead letter in the queue.
func (s *stage) letters() map[state.Position]string {
	out := map[state.Position]string{}
	s.must(verify.DeadLetters(topic, s.kafkaOpts("script")...).Rows(s.ctx, "", func(r []string) error {
		var p state.Position
		if _, err := fmt.Sscan(r[0]+" "+r[1], &p.Partition, &p.Offset); err != nil {
			return err
		}
		out[p] = r[2]
		return nil
	}))
	return out
}

// rollupRow is a row of a rollup's view.
type rollupRow struct {
	Sessions, Views        int64
	AvgDuration, AvgEvents float64
	All                    string // every column
}

// total returns the rows of a rollup's view by date and dimensions: date/dim1/dim2.
func (s *stage) total(table schema.RollupTable) map[string]rollupRow {
	out := map[string]rollupRow{}
	for _, r := range s.click.Rows(clickDatabase, table.String()) {
		key := []string{r.Date("date").Format(time.DateOnly)}
		for _, dim := range rollupDims[table] {
			key = append(key, r.Text(dim))
		}
		out[strings.Join(key, "/")] = rollupRow{
			Sessions: r.Int("total_sessions"), Views: r.Int("total_article_views"),
			AvgDuration: r.Float("avg_session_duration_sec"),
			AvgEvents:   r.Float("avg_events_per_session"), All: r.String(),
		}
	}
	return out
}

// rollupDims are the dimensions of the rollups that scripts look at.
var rollupDims = map[schema.RollupTable][]string{schema.RollupSummary: nil, schema.RollupBrand: {"brand"}}

// logged counts the lines of the history that hold a text.
func (s *stage) logged(text string) (n int) {
	s.history.mu.Lock()
	defer s.history.mu.Unlock()
	for _, l := range s.history.lines {
		if strings.Contains(l, text) {
			n++
		}
	}
	return n
}

// stopped waits until the leader says that a part waits for an operator, and returns the reason.
func (s *stage) stopped(part string) (why string) {
	s.await(2*time.Minute, part+" stops", func() bool { why = s.status().Stopped[part]; return why != "" })
	return why
}

// storeDown and clickDown take a sink away until the returned function is called.
func (s *stage) storeDown() func() { return s.storeFaults(objectFaults{down: true}) }

func (s *stage) clickDown() func() {
	s.click.set(clickFaults{before: 1})
	return func() { s.click.set(clickFaults{}) }
}

// cutPower is a loss of power of all nodes at once, which keeps the given percentage of what was not synced.
func (s *stage) cutPower(percent int) (release func()) {
	var all []func()
	for _, m := range s.members {
		all = append(all, m.kill(percent))
	}
	return func() {
		for _, f := range all {
			f()
		}
	}
}

// ready waits until the whole cluster is.
func (s *stage) ready() { s.await(3*time.Minute, "the cluster is ready", s.allReady) }

// clone copies a disk as it is.
func (d *disk) clone() (c *vfs.MemFS) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rng.with(func(r *rand.Rand) { c = d.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: r}) })
	return c
}

// Reasons of dead letters.
const (
	badTimestamp = event.BadTimestamp
	tooLate      = event.TooLate
	sessionFull  = event.SessionFull
)
