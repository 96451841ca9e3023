package cluster

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"deckle/event"
	"deckle/sim"
	"deckle/state"
)

// change is a change of the list in all shards.
type change struct {
	add  bool
	who  []sim.Reader
	took []bool // by shard
}

// changeReaders changes the list of suppressed readers while they have records, as the verb does it: the salt of shard
// 0 or a new one, shard 0 first, then the others. Some changes stay half done for a while, and are repeated as a whole
// when the fault is healed; between two shards a node may be restarted. Others change the list at the same time.
func (w *world) changeReaders(ctx context.Context) func() {
	var all []*change
	for range 1 + w.rng.IntN(3) {
		// In a run that purges, what comes back after the retention would be a new session, of which the truth of the
		// workload does not know.
		c := &change{add: w.opts.Purge || w.rng.IntN(10) < 7, took: make([]bool, w.shards)}
		if c.who = w.listing.choose(w.rng, c.add); len(c.who) == 0 {
			continue
		}
		all = append(all, c)
		w.history.fault("readers", "add: %t, %d: %v", c.add, len(c.who), c.who[:min(len(c.who), 6)])
		tctx, cancel := context.WithTimeout(ctx, w.rng.between(time.Second, 8*time.Second))
		w.tryChange(tctx, c, w.rng.IntN(3) == 0)
		cancel()
		_ = sim.Pause(ctx, w.rng.between(0, 2*time.Second))
	}
	return func() {
		for _, c := range all {
			again := w.rng.IntN(3) == 0 // what is done may be repeated
			_ = w.until(ctx, 3*time.Minute, "a change of the list of suppressed readers", func() bool {
				if !again && !slices.Contains(c.took, false) {
					return true
				}
				again = false
				tctx, cancel := context.WithTimeout(ctx, 20*time.Second)
				defer cancel()
				w.tryChange(tctx, c, false)
				return !slices.Contains(c.took, false)
			})
			if !slices.Contains(c.took, false) {
				w.listing.done(c.add, c.who)
			}
		}
	}
}

// tryChange asks every shard once, and those behind shard 0 only once that has taken the change. With half set, it may
// stop behind any shard, and restart a node before the next.
func (w *world) tryChange(ctx context.Context, c *change, half bool) {
	lead, _ := w.leaderNow(0)
	if lead == nil {
		return
	}
	inc := lead.current()
	if inc == nil || inc.node.Shard(0) == nil {
		return
	}
	salt, ok, err := inc.node.Shard(0).Salt(ctx)
	if err != nil {
		w.history.add("readers", "the salt: %v", err)
		return
	}
	if !ok {
		for i := range salt {
			salt[i] = byte(1 + w.rng.IntN(255))
		}
	}
	e := state.SuppressEntry{Op: state.SuppressRemove, Salt: salt, By: "the simulated operator"}
	if c.add {
		e.Op = state.SuppressAdd
	}
	lister := event.NewLister(salt)
	for _, r := range c.who {
		kind := event.SuppressUser
		if r.Session {
			kind = event.SuppressSession
		}
		l, err := lister.Listing(kind, r.ID)
		if want := listingOf(r, salt); err != nil || l.Hash != want.hash || byte(l.Kind) != want.kind {
			w.history.fail("the listing of %s is %x, %v", r, l.Hash, err)
		}
		e.Listings = append(e.Listings, l)
	}
	for shard := range uint32(w.shards) {
		if lead, _ = w.leaderNow(shard); lead == nil {
			continue
		}
		if inc = lead.current(); inc == nil || inc.node.Shard(shard) == nil {
			continue
		}
		res, err := inc.node.Shard(shard).Suppress(ctx, e)
		took := err == nil && res.Refused == state.SuppressTaken
		c.took[shard] = c.took[shard] || took
		switch {
		case err != nil:
			w.history.add("readers", "shard %d at %s: %v", shard, inc.host, err)
		case !took:
			w.history.add("readers", "shard %d at %s refuses: %d", shard, inc.host, res.Refused)
		default:
			w.history.add("readers", "shard %d at %s: %d changed, list %d", shard, inc.host, res.Changed,
				res.List.Number)
		}
		if !took && shard == 0 || half && w.rng.IntN(2) == 0 {
			return
		}
		if half && w.rng.IntN(2) == 0 {
			w.anyMember().restart()
		}
	}
}

// suppressed holds what the log has decided against the truth, and looks for what nothing may have of a suppressed
// record.
//
//   - The entry that has decided it has neither an event nor a letter of it, and names it as left out.
//   - The state has counted as many, by shard; every replica has the list that the log makes, and all shards have the
//     same readers.
//   - Neither a state nor an object has the id of its event, unless another record of that id was let in.
func (o *oracle) suppressed(truth *sim.Truth) {
	w := o.w
	type counts struct{ users, sessions, either int64 }
	want := map[uint32]*counts{}
	for shard := range uint32(w.shards) {
		want[shard] = &counts{}
	}
	left := map[sim.Position]bool{}
	for _, s := range truth.Suppressed() {
		left[s.Position] = true
		n := want[uint32(int(s.Partition)%w.shards)]
		switch {
		case s.User && s.Session:
			n.either++
		case s.User:
			n.users++
		default:
			n.sessions++
		}
		if passed := o.decided.at[s.Position].passed; passed != suppressed {
			w.history.fail("the record %v of a suppressed reader was let in (%d), or passed over: %.300s", s.Position,
				passed, s.Value)
		}
	}
	for at, d := range o.decided.at {
		if d.passed == suppressed && !left[at] {
			w.history.fail("the record %v was left out, and its reader was not on the list", at)
		}
	}
	for shard, l := range o.decided.lists {
		for _, m := range w.members {
			s := m.store(shard)
			if s == nil {
				continue
			}
			v := s.View()
			n, c := want[shard], &v.RuleCounts
			if c.SuppressedUsers+c.SuppressedSessions != n.users+n.sessions+n.either ||
				c.SuppressedUsers < n.users || c.SuppressedSessions < n.sessions {
				w.history.fail("%s has counted %d and %d records of suppressed users and sessions in shard %d: %+v",
					m.name, c.SuppressedUsers, c.SuppressedSessions, shard, *n)
			}
			if v.Suppress.Number != l.changes || v.Suppress.Count != int64(len(l.readers)) {
				w.history.fail("%s has the list %+v in shard %d; the log makes %d readers by %d changes", m.name,
					v.Suppress, shard, len(l.readers), l.changes)
			}
		}
		if first := o.decided.lists[0]; first == nil || len(l.readers) != len(first.readers) ||
			len(l.readers) > 0 && l.salt != first.salt {
			w.history.fail("shard %d has other suppressed readers than shard 0", shard)
		}
	}
	o.eventsOfSuppressed(left)
}

// eventsOfSuppressed looks for events of which no record was let in, by their ids, in the states and the objects. Logs
// are not looked at: the entry of a batch that was refused may have them.
func (o *oracle) eventsOfSuppressed(left map[sim.Position]bool) {
	const most = 50 // each is looked for in every byte
	var forms [][]byte
	for id, all := range o.w.listing.events {
		if len(forms) > 2*most || slices.ContainsFunc(all, func(at sim.Position) bool { return !left[at] }) {
			continue
		}
		forms = append(forms, []byte(id))
		if b, err := hex.DecodeString(strings.ReplaceAll(id, "-", "")); err == nil && len(b) == 16 {
			forms = append(forms, b)
		}
	}
	o.w.history.add("sim", "%d records of suppressed readers, looked for by %d forms of ids", len(left), len(forms))
	for _, m := range o.w.members {
		for shard := range o.w.shards {
			o.plantedBelow(m.disk.memory(), m.name, fmt.Sprint("data/shard-", shard), forms)
		}
	}
	for name, content := range o.w.objects.Contents() {
		for _, form := range forms {
			if bytes.Contains(content, form) {
				o.w.history.fail("the object %s has the event %q of a suppressed reader", name, form)
			}
		}
	}
}
