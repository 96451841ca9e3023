package demo

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/sim"
	"deckle/sim/verify"
)

// reconcile compares every replica, the dead letter queue and the tables with the truth.
func (d *demo) reconcile(ctx context.Context, report *Report, sum *sim.Summary) error {
	var f findings
	f.check("records: applied + duplicates + dead letters + excluded", sum.Produced,
		report.AppliedEvents+report.Duplicates+report.DeadLetters+report.Excluded, 0)
	for i, m := range d.cluster.members {
		var replicas []replica
		for shard := range uint32(d.o.Shards) {
			if s := m.Store(shard); s != nil {
				replicas = append(replicas, s)
			}
		}
		if err := f.checkReplicas(d.cluster.names[i], replicas, d.truth, sum); err != nil {
			return err
		}
	}
	opts := verify.Options{
		Truth: []sim.Source{d.truth}, Limit: maxDifferences,
		More: []verify.Table{{
			Name: "dead letter queue", Kind: verify.Letters,
			Reader: verify.DeadLetters(d.place.topic, kgo.SeedBrokers(d.broker.addrs...)),
		}},
	}
	cfg := d.o.config(d.place, d.broker.addrs)
	closeTables, err := opts.Open(ctx, &cfg)
	if err != nil {
		return err
	}
	v, err := verify.Verify(ctx, opts)
	if err = errors.Join(err, closeTables()); err != nil {
		return err
	}
	f.addTables(v)
	report.take(&f, v)
	return nil
}

// addTables adds what verify found.
func (f *findings) addTables(v *verify.Report) {
	for _, name := range slices.Sorted(maps.Keys(v.Tables)) {
		t := v.Tables[name]
		f.check(name, t.Want, t.Rows, t.Different)
	}
	for _, d := range v.Differences {
		f.differ(d)
	}
}

// take fills in the report from what was found. Everything that was to be compared must have been compared.
func (r *Report) take(f *findings, v *verify.Report) {
	r.Checks, r.Differences = append(r.Checks, f.checks...), append(r.Differences, f.differences...)
	r.Equal = f.equal() && v.Equal
	if v.DeltaEvents != nil {
		r.DeltaEvents = *v.DeltaEvents
	}
	if v.DeltaSessions != nil {
		r.DeltaSessions = *v.DeltaSessions
	}
	r.ClickHouseSessions = v.ClickHouseSessions
	r.Equal = r.Equal && v.DeltaEvents != nil && v.DeltaSessions != nil
}
