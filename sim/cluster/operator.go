package cluster

import (
	"context"
	"fmt"
	"regexp"
	"time"

	"deckle/node/status"
	"deckle/sim"
)

// advised are the commands that give up what the raw events of a shard wait for, as its leader's conditions name them.
func advised(st *status.Shard) (all []status.Command) {
	for _, found := range advice.FindAllStringSubmatch(st.Stopped["events"]+st.Failing["events"], -1) {
		c := status.Command{Sink: "events", Reason: "the simulated operator"}
		if _, err := fmt.Sscan(found[1]+" "+found[2]+" "+found[3], &c.Partition, &c.From, &c.To); err == nil {
			all = append(all, c)
		}
	}
	return all
}

var advice = regexp.MustCompile(`deckle partitions skip --sink events --partition (\d+) --from (\d+) --to (\d+)`)

// loseRawEvents has the log of a partition begin behind records that have been read, while no table has their raw
// events, and their buffer is lost with the leader.
//
//	store down ─► records are read ─► log trimmed, leader killed ─► store up ─► the operator gives up what is named
func (w *world) loseRawEvents(ctx context.Context) func() {
	up := w.storeFaults(objectFaults{down: true})
	_ = sim.Pause(ctx, w.rng.between(2*time.Second, 6*time.Second))
	p := int32(w.rng.IntN(int(w.opts.Partitions)))
	lead, st := w.leaderNow(uint32(int(p) % w.shards))
	if lead == nil {
		return up
	}
	for _, part := range st.State.Partitions {
		to := part.Next - int64(w.rng.IntN(3))
		if part.Partition != p || to <= 0 {
			continue
		}
		w.history.fault("raw_events_lost", "partition %d begins at offset %d, %s is killed", p, to, lead.name)
		if err := w.broker.DeleteRecords(topic, p, to); err != nil {
			w.history.add("broker", "%v", err)
			return up
		}
		w.trim(p, to)
		return all([]func(){lead.kill(w.survivors()), up})
	}
	return up
}

// trim notes that the log of a partition begins at an offset.
func (w *world) trim(partition int32, to int64) {
	w.trimmedLock.Lock()
	defer w.trimmedLock.Unlock()
	if w.trimmed == nil {
		w.trimmed = map[int32]int64{}
	}
	w.trimmed[partition] = max(w.trimmed[partition], to)
}

// gone says whether a partition's log has lost everything below an offset.
func (w *world) gone(partition int32, to int64) bool {
	w.trimmedLock.Lock()
	defer w.trimmedLock.Unlock()
	return to <= w.trimmed[partition]
}

// operate carries out what conditions say of raw events that are gone, until ctx ends. What comes back by itself, it
// leaves alone.
func (w *world) operate(ctx context.Context) {
	for sim.Pause(ctx, time.Second) == nil {
		w.addPartitions(ctx)
		for shard := range uint32(w.shards) {
			lead, st := w.leaderNow(shard)
			if lead == nil {
				continue
			}
			for _, c := range advised(&st) {
				inc := w.anyMember().current()
				if inc == nil || !w.gone(c.Partition, c.To) {
					continue
				}
				cctx, cancel := context.WithTimeout(ctx, 20*time.Second)
				out, err := inc.node.Command(cctx, c)
				cancel()
				w.history.add("operator", "%+v at %s: %+v, %v", c, inc.host, out, err)
			}
		}
	}
}

// givenUp wants every range of which table events says that it may be missing to be one that was given up.
func (o *oracle) givenUp() {
	snap := o.delta.events.table.Snapshot()
	for _, r := range snap.Given() {
		known := false
		for _, m := range o.w.members {
			if s := m.store(uint32(int(r.Partition) % o.w.shards)); s != nil {
				known = known || s.Peek().EventGaps[r.Partition].Covers(r.From, r.To)
			}
		}
		if !known {
			o.w.history.fail("table events says that [%d, %d) of partition %d was given up, and nobody has", r.From,
				r.To, r.Partition)
		}
	}
}
