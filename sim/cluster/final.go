package cluster

import (
	"context"
	"strings"
	"time"

	"deckle/sim"
	"deckle/sim/verify"
	"deckle/sinks/clickhouse"
	"deckle/sinks/delta/history"
)

// final compares everything with the ground truth, when nothing moves any more.
func (o *oracle) final(ctx context.Context) error {
	o.look(ctx)
	o.givenUp()
	o.deleted()
	o.planted()
	o.newestRules()
	delta, err := verify.OpenDelta(ctx, o.w.objects.Mem)
	if err != nil {
		return err
	}
	click, err := clickhouse.OpenReader(ctx, clickhouse.Options{Address: clickAddr, Compression: "none",
		Dial: o.w.dialFrom("verify")})
	if err != nil {
		return err
	}
	if o.decided, err = o.w.journal.decide(o.w.listing.everybody()); err != nil {
		return err
	}
	truth, err := o.truth()
	if err != nil {
		return err
	}
	o.suppressed(truth)
	decided := truth.Summary()
	if err := o.equalReplicas(ctx, &decided); err != nil {
		return err
	}
	rep, err := verify.Verify(ctx, verify.Options{
		Truth: []sim.Source{truth}, Delta: delta, ClickHouse: verify.ClickHouse(click), Wait: time.Minute, Limit: 5,
		Deleted: o.w.foreign.sessions(),
		More: []verify.Table{{Name: "dead letter queue", Kind: verify.Letters,
			Reader: verify.DeadLetters(topic, o.w.kafkaOpts("verify")...)}},
	})
	if cerr := click.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	o.compared = decided.Produced
	if !rep.Equal {
		o.w.history.fail("the tables differ from the truth: %+v", rep.Tables)
		for _, d := range rep.Differences {
			o.w.history.add("verify", "%+v", d)
		}
	}
	return o.logs(ctx)
}

// logs compares the log of each Delta table with its checkpoints, its objects and itself, as deckle delta fsck does.
func (o *oracle) logs(ctx context.Context) error {
	for _, name := range []string{"events", "sessions"} {
		t, err := history.Open(ctx, o.w.objects.Mem, name)
		if err != nil {
			return err
		}
		r, err := t.Check(ctx, history.CheckOptions{})
		if err != nil {
			return err
		}
		for _, f := range r.Findings {
			// For whose clock is a year ahead no removed file is inside the retention: the checkpoints that it makes
			// have none.
			forgotten := f.Kind == history.CheckpointDiffers && strings.Contains(f.Text, "tombstones inside")
			if !f.Warning && !(forgotten && o.w.farAhead.Load()) {
				o.w.history.fail("table %s: %s, %s: %s", name, f.Kind, f.Key, f.Text)
			}
		}
	}
	return nil
}

// equalReplicas compares the replicas with one another and with what was produced.
//
// A node may find a bit that was flipped long ago between the drain and this look. It then becomes a member again, and
// is waited for like before.
func (o *oracle) equalReplicas(ctx context.Context, sum *sim.Summary) error {
	differ := map[string]int64{} // by member
	defer func() {
		for name, n := range differ {
			if n != sum.KeysDiffer {
				o.w.history.fail("%s has counted %d records under another key than the first one of their session, "+
					"there were %d", name, n, sum.KeysDiffer)
			}
		}
	}()
	for shard := range uint32(o.w.shards) {
		for _, m := range o.w.members {
			s := m.store(shard)
			if s == nil && m.isDamaged() {
				if err := o.w.drain(ctx, sum); err != nil {
					return err
				}
				s = m.store(shard)
			}
			if s == nil {
				o.w.history.fail("%s has no replica of shard %d at the end", m.name, shard)
				continue
			}
			v := s.View()
			differ[m.name] += v.Keys.Keys
			if n := v.Keys.Partitions; n > 0 {
				o.w.history.fail("%s has counted %d records in another partition than their session's", m.name, n)
			}
			for _, p := range v.Partitions {
				if want := o.promised[p.Partition]; p.Next < want || p.Next != sum.Partitions[p.Partition].To {
					o.w.history.fail("I3: %s has partition %d up to %d; %d were applied once, %d produced", m.name,
						p.Partition, p.Next, want, sum.Partitions[p.Partition].To)
				}
			}
		}
	}
	return nil
}
