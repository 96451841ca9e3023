package demo

import (
	"context"

	"deckle/sim"
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
	if err := f.checkLetters(ctx, d.broker.addrs, d.place.topic, d.truth); err != nil {
		return err
	}
	report.Checks, report.Differences = append(report.Checks, f.checks...), append(report.Differences, f.differences...)
	report.Equal = f.equal()
	return nil
}
