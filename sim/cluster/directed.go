package cluster

import (
	"context"
	"time"
)

// Faults that are several in a certain order, each the hardest moment of one rule: drawn one by one they meet too seldom.

// loseWitness is the hardest moment to lose a disk: a node that has acknowledged what the third one has not seen comes back
// empty, and meets that third one alone. The two are a majority that knows nothing of it.
//
//	behind   ──cut off──────────────┐ can reach lost alone
//	lost     ──acknowledges─ wiped ─┴───────────────────────┐ all can reach all
//	holds    ──acknowledges────────── cut off ──────────────┘
func (w *world) loseWitness(ctx context.Context) func() {
	if !w.oneDisk.TryLock() {
		return nothing
	}
	i, p := w.rng.IntN(3), w.survivors()
	j := (i + 1 + w.rng.IntN(2)) % 3
	behind, lost, holds := w.members[i], w.members[j], w.members[3-i-j]
	w.history.fault("wipe_witness", "%s is cut off, then %s is wiped and meets it alone", behind.name, lost.name)
	join := w.cutAll(behind.index, true, true)
	_ = wait(ctx, w.rng.between(2*time.Second, 6*time.Second))
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

// stickSync lets a leader's sync take until the others have another leader: what it was writing becomes durable only then,
// though nobody waits for it any more, and what the new leader sends must void all of it. The logs are looked at closely
// while that comes in.
func (w *world) stickSync(ctx context.Context) func() {
	m := w.leader()
	release := m.disk.stick()
	if release == nil {
		return nothing // another fault's
	}
	w.history.fault("stuck_sync", "%s", m.name)
	_ = wait(ctx, w.rng.between(1500*time.Millisecond, 3*time.Second))
	release()
	for range 50 {
		w.oracle.audit()
		_ = wait(ctx, 10*time.Millisecond)
	}
	return nothing
}
