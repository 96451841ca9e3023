package demo

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"deckle/sim"
	"deckle/sim/verify"
)

// reconcile compares every replica, the dead letter queue and the tables with the truth.
func (d *demo) reconcile(ctx context.Context, report *Report, sum *sim.Summary) error {
	var f findings
	f.check("records: applied + duplicates + dead letters", sum.Produced, report.AppliedEvents+report.Duplicates+report.DeadLetters, 0)
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
	tables, err := d.tables(ctx)
	if err != nil {
		return err
	}
	defer tables.close()
	opts := tables.options
	opts.Truth, opts.Limit = []sim.Source{d.truth}, maxDifferences
	opts.More = append(opts.More, verify.Table{
		Name: "dead letter queue", Kind: verify.Letters, Reader: &letters{brokers: d.broker.addrs, topic: d.place.topic},
	})
	v, err := verify.Verify(ctx, opts)
	if err != nil {
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

// take fills in the report from what was found; everything that was to be compared must have been.
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

// openTables are the readers of the sinks, as options of verify.
type openTables struct {
	options verify.Options
	close   func()
}

func (d *demo) tables(context.Context) (*openTables, error) {
	return nil, fmt.Errorf("demo: no reader of the tables yet")
}
