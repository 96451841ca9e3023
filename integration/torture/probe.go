package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/sim"
)

// prober produces small sessions into a partition of choice. They are part of the truth.
type prober struct {
	client *kgo.Client
	truth  *sim.Truth
	seed   string
	made   int
}

func newProber(broker, truth string, seed uint64) (*prober, error) {
	t, err := sim.CreateTruth(truth)
	if err != nil {
		return nil, err
	}
	t.Begin(sim.Header{Topic: topic, Seed: seed, Keyed: true})
	client, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerLinger(0))
	if err != nil {
		return nil, err
	}
	return &prober{client: client, truth: t, seed: strconv.FormatUint(rand.Uint64(), 36)}, nil
}

// probed is a session that was produced to be looked for.
type probed struct {
	session   string
	partition int32
	offset    int64 // of its first event
}

// session produces a session of three events and its end.
func (p *prober) session(ctx context.Context, partition int32) (*probed, error) {
	p.made++
	id := fmt.Sprintf("probe-%s-%d", p.seed, p.made)
	out := &probed{session: id, partition: partition, offset: -1}
	types := []string{"article_view", "article_click", "ad_click", "session_end"}
	for i, typ := range types {
		now := time.Now()
		value := fmt.Appendf(nil, `{"event_id":%q,"session_id":%q,"user_id":%d,"event_type":%q,"timestamp":%d,"brand":"probe","country":"DE",`+
			`"article_id":"probe_%d","article_title":"Probe","category":"probe","engagement_metrics":{"time_on_page":%d,"ad_revenue":0.25}}`,
			uuid.NewString(), id, 1_000_000+p.made, typ, now.Unix(), i%2, i+1)
		rec := &sim.Record{Key: []byte(id), Value: value, Kind: sim.KindEvent, Time: now, SessionID: id, Last: i == len(types)-1}
		p.truth.Sent(rec)
		// What has been sent must be known to have landed: it is part of the truth, whatever becomes of the round.
		r, err := p.client.ProduceSync(context.WithoutCancel(ctx), &kgo.Record{Key: rec.Key, Value: value, Partition: partition, Timestamp: now}).First()
		if err != nil {
			p.truth.Failed(rec, false)
			return nil, fmt.Errorf("probe: %w", err)
		}
		p.truth.Acked(rec, r.Partition, r.Offset, r.Timestamp.UnixMilli())
		if out.offset < 0 {
			out.offset = r.Offset
		}
	}
	return out, nil
}

func (p *prober) close() error {
	p.client.Close()
	_, err := p.truth.Close()
	return err
}

// recovery is how long it took until what was produced after a kill was visible.
type recovery struct {
	events, clickhouse, sessions time.Duration // sessions: a row needs the session's end and its grace, too
}

func (r recovery) worst() time.Duration { return max(r.events, r.clickhouse) }

// recover produces a session to each of the shards and waits until all are visible in every sink. The worst shard counts.
func (w *world) recover(ctx context.Context, killed time.Time, shards []uint32) (recovery, error) {
	type result struct {
		recovery
		err error
	}
	results := make(chan result, len(shards))
	var all []*probed
	for _, s := range shards {
		p, err := w.probe.session(ctx, int32(s))
		if err != nil {
			return recovery{}, err
		}
		all = append(all, p)
		event, row := w.watch.delta.expect(p.session, p.partition, p.offset)
		go func() {
			var r result
			for _, x := range []struct {
				seen <-chan time.Time
				to   *time.Duration
			}{{event, &r.events}, {row, &r.sessions}} {
				select {
				case at := <-x.seen:
					*x.to = at.Sub(killed)
				case <-ctx.Done():
					r.err = fmt.Errorf("probe %s at %d/%d is not visible: %w", p.session, p.partition, p.offset, ctx.Err())
				}
			}
			results <- r
		}()
	}
	var worst recovery
	clickhouse, err := w.awaitClickHouse(ctx, all)
	if err != nil {
		return worst, err
	}
	worst.clickhouse = clickhouse.Sub(killed)
	for range shards {
		r := <-results
		if r.err != nil {
			return worst, r.err
		}
		worst.events, worst.sessions = max(worst.events, r.events), max(worst.sessions, r.sessions)
	}
	return worst, nil
}

// awaitClickHouse polls until every probe has its row, and says when that was. It polls the stored table, and then reads the
// view once, which shows what is stored: the engine runs one statement at a time, and a view's FINAL ten times a second
// would hold up the inserts that are waited for.
func (w *world) awaitClickHouse(ctx context.Context, all []*probed) (time.Time, error) {
	conn := w.clickConn()
	defer conn.close()
	list := make([]string, len(all))
	for i, p := range all {
		list[i] = "'" + p.session + "'"
	}
	count := func(table string) (n int64, err error) {
		err = conn.rows(ctx, 0, 1, func(_ []string, c []int64) { n = c[0] },
			"SELECT toInt64(uniqExact(session_id)) FROM %s.%s WHERE session_id IN (%s) AND session_date >= today() - 1", database, table, strings.Join(list, ","))
		return n, err
	}
	for {
		began := time.Now()
		n, err := count("session_metrics_versions")
		if at := time.Now(); err == nil && n == int64(len(all)) {
			if n, err = count("session_metrics"); err == nil && n == int64(len(all)) {
				return at, nil
			}
			if err == nil {
				return at, fmt.Errorf("%d probes are stored in ClickHouse, and the view shows %d", len(all), n)
			}
		}
		if serr := sleep(ctx, max(100*time.Millisecond, 3*time.Since(began))); serr != nil {
			return time.Time{}, fmt.Errorf("%d of %d probes are visible in ClickHouse: %w (last error: %w)", n, len(all), serr, err)
		}
	}
}
