package cluster

import "deckle/sim/testworld/badbatch"

// damage is one way in which a batch of the broker's log cannot be read.
type damage struct {
	name string
	do   badbatch.Damage
}

// damages are those that the client names. It passes over a batch of the first kind by itself.
var damages = []damage{
	{"a version that does not exist", badbatch.Magic},
	{"a flipped bit", badbatch.Flip},
	{"a codec that does not exist", badbatch.Codec},
	{"not what its codec says", badbatch.Packed},
}

// spoil breaks a batch in up to three partitions, a little behind what has been read of them.
func (w *world) spoil(fault string, of []damage) func() {
	first, n, d := int32(w.rng.IntN(int(w.opts.Partitions))), 1+w.rng.IntN(3), of[w.rng.IntN(len(of))]
	var heals []func()
	for i := range min(int32(n), w.opts.Partitions) {
		p := (first + i) % w.opts.Partitions
		at := w.read(p) + int64(w.rng.IntN(20))
		w.history.fault(fault, "partition %d, the batch of offset %d: %s", p, at, d.name)
		w.broken.Spoil(p, at, d.do)
		heals = append(heals, func() { w.broken.Mend(p) })
	}
	return all(heals)
}

// read is the offset up to which some replica has applied a partition.
func (w *world) read(partition int32) (next int64) {
	for _, m := range w.members {
		inc := m.current()
		if inc == nil {
			continue
		}
		for _, s := range inc.node.Status().Shards {
			for _, p := range s.State.Partitions {
				if p.Partition == partition {
					next = max(next, p.Next)
				}
			}
		}
	}
	return next
}
