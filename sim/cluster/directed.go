package cluster

import (
	"context"
	"time"

	"deckle/sim"
)

// Sequences of faults, each of which makes the hardest moment for one rule. Faults that are drawn one by one come
// together in this order too seldom.

// loseWitness is the hardest moment to lose a disk: a node that has acknowledged what the third one has not seen comes
// back empty, and meets that third one alone. These two are a majority that does not know what was acknowledged.
//
//	behind   ──cut off──────────────┐ can reach lost alone
//	lost     ──acknowledges─ wiped ─┴───────────────────────┐ all can reach all
//	holds    ──acknowledges────────── cut off ──────────────┘
func (w *world) loseWitness(ctx context.Context) func() {
	if !w.mayLoseDisk() {
		return nothing
	}
	i, p := w.rng.IntN(3), w.survivors()
	j := (i + 1 + w.rng.IntN(2)) % 3
	behind, lost, holds := w.members[i], w.members[j], w.members[3-i-j]
	w.history.fault("wipe_witness", "%s is cut off, then %s is wiped and meets it alone", behind.name, lost.name)
	join := w.cutAll(behind.index, true, true)
	_ = sim.Pause(ctx, w.rng.between(2*time.Second, 6*time.Second))
	release := lost.kill(p)
	lost.disk.wipe()
	rejoin := w.cutAll(holds.index, true, true)
	join()
	w.net.Cut(behind.name, holds.name)
	w.net.Cut(holds.name, behind.name)
	release()
	return func() {
		rejoin()
		_ = w.until(ctx, 90*time.Second, lost.name+" is a member again", w.allReady)
		w.oneDisk.Unlock()
	}
}

// stickSync makes a sync of a leader last until the leader has given up. What it was writing becomes durable only
// then, when nobody waits for it any more, and the few entries that the next leader sends at first must replace all of
// it. The logs are looked at closely while those come in.
//
//	syncs are slow: several entries  ─► one is stuck past ─► it returns ─► first entry of
//	wait for each of them                the deadline                       the next leader
func (w *world) stickSync(ctx context.Context) func() {
	m := w.leader()
	w.history.fault("stuck_sync", "%s", m.name)
	m.disk.set(func(d *disk) { d.syncs = 600 * time.Millisecond })
	_ = sim.Pause(ctx, time.Second)
	release := m.disk.stick()
	_ = sim.Pause(ctx, w.rng.between(time.Second, 1600*time.Millisecond))
	m.disk.set(func(d *disk) { d.syncs = 0 })
	release()
	for range 60 {
		if sim.Pause(ctx, 20*time.Millisecond) != nil {
			break
		}
		w.oracle.audit()
	}
	return nothing
}

// cutCommitter cuts the node that commits for all off from one other node, or from the object store, alone.
func (w *world) cutCommitter() func() {
	m := w.committer()
	if inc := m.current(); inc != nil && w.rng.IntN(2) == 0 {
		w.history.fault("cut_committer", "%s, from the store", m.name)
		return w.storeFaults(objectFaults{away: inc.gate})
	}
	var others []*member
	for _, o := range w.members {
		if o != m {
			others = append(others, o)
		}
	}
	o := others[w.rng.IntN(len(others))]
	w.history.fault("cut_committer", "%s, from %s", m.name, o.name)
	w.net.Cut(m.name, o.name)
	w.net.Cut(o.name, m.name)
	return func() { w.net.Heal(m.name, o.name); w.net.Heal(o.name, m.name) }
}
