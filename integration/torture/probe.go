package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/sim"
)

// prober produces small sessions into a chosen partition. They are part of the truth.
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
	client, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.DefaultProduceTopic(topic),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerLinger(0))
	if err != nil {
		return nil, err
	}
	return &prober{client: client, truth: t, seed: strconv.FormatUint(rand.Uint64(), 36)}, nil
}

// probed is a session that was produced in order to be looked for.
type probed struct {
	session   string
	partition int32
	offset    int64 // of its first event
}

// session produces a session of three events and a session_end.
func (p *prober) session(ctx context.Context, partition int32) (*probed, error) {
	p.made++
	id := fmt.Sprintf("probe-%s-%d", p.seed, p.made)
	out := &probed{session: id, partition: partition, offset: -1}
	types := []string{"article_view", "article_click", "ad_click", "session_end"}
	for i, typ := range types {
		now := time.Now()
		value := fmt.Appendf(nil, `{"event_id":%q,"session_id":%q,"user_id":%d,"event_type":%q,"timestamp":%d,`+
			`"brand":"probe","country":"DE","article_id":"probe_%d","article_title":"Probe","category":"probe",`+
			`"engagement_metrics":{"time_on_page":%d,"ad_revenue":0.25}}`,
			uuid.NewString(), id, 1_000_000+p.made, typ, now.Unix(), i%2, i+1)
		rec := &sim.Record{
			Key: []byte(id), Value: value, Kind: sim.KindEvent, Time: now, SessionID: id, Last: i == len(types)-1,
		}
		p.truth.Sent(rec)
		// A record that was sent must be known to be in the topic: it is part of the truth, even if the round fails.
		kr := &kgo.Record{Key: rec.Key, Value: value, Partition: partition, Timestamp: now}
		r, err := p.client.ProduceSync(context.WithoutCancel(ctx), kr).First()
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
