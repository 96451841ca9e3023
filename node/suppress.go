package node

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"deckle/event"
	"deckle/node/shard"
	"deckle/node/status"
	"deckle/schema/level"
	"deckle/state"
)

const (
	// listWithin bounds a request about the list, so that its answer is ready before the connection ends.
	listWithin = 25 * time.Second
	// listTries is how often a change of the list is made anew because another node has set the salt meanwhile.
	listTries = 3
	// sessionsWithin and maxOpenSessions bound the search for open sessions of users who were added.
	sessionsWithin, maxOpenSessions = 5 * time.Second, 100
)

// lists changes and reads the cluster's list of suppressed readers, of which every shard has a copy.
//
//	ids ──► salt: shard 0's, or a new one ──► hashes ──► shard 0 ──► all the others, at once
//
// Shard 0 is always first: it decides the salt, and what it has is what counts, since it is the newest. The others get
// its salt once its entry is committed, so none can have another one.
type lists struct {
	commands *commands
	random   io.Reader
	now      func() time.Time
}

// Do carries out a request, at whatever nodes lead the shards. The error wraps status.ErrRefused if nothing has changed
// anywhere. What a single shard has not done is in the outcome. Once it has begun, it does not end with ctx.
func (l *lists) Do(ctx context.Context, q *status.ListRequest) (*status.ListOutcome, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), listWithin)
	defer cancel()
	if err := l.ready(q); err != nil {
		return nil, err
	}
	switch q.Op {
	case status.ListAdd, status.ListRemove:
		return l.change(ctx, q)
	case status.ListCheck:
		return l.check(ctx, q)
	case status.ListRepair:
		return l.repair(ctx, q)
	}
	return nil, listRefused("there is no %q", q.Op)
}

func listRefused(format string, args ...any) error {
	return fmt.Errorf("%w: %w", status.ErrRefused, fmt.Errorf(format, args...))
}

// ready refuses what could not be carried out whole. It asks this node's replicas, which may lag: a shard that has no
// room after all says so itself.
func (l *lists) ready(q *status.ListRequest) error {
	shards := l.commands.shards()
	if len(shards) == 0 {
		return listRefused("the shards of this node do not run yet")
	}
	if n := q.Len(); n > status.MaxListIDs || (n == 0) != (q.Op == status.ListRepair) {
		return listRefused("%d ids; 1 to %d are taken at once, and none for a repair", n, status.MaxListIDs)
	}
	for kind, ids := range map[event.SuppressKind][]string{event.SuppressUser: q.Users,
		event.SuppressSession: q.Sessions} {
		for i, id := range ids {
			if err := event.CheckSuppressID(kind, id); err != nil { // which does not quote it
				return listRefused("%s %d of the request: %w", kind, i+1, err)
			}
		}
	}
	for _, s := range shards {
		if at := s.Store().Peek().Level; at < level.Guarded {
			return listRefused("shard %d has level %d here, in which no reader can be suppressed; it rises once all "+
				"nodes run this version", s.ID(), at)
		}
		list := s.Store().Suppression()
		if q.Op != status.ListAdd || list.Len()+q.Len() <= state.MaxSuppressed {
			continue
		}
		n := list.Len()
		for _, x := range listingsOf(q, list.Salt) {
			if !list.Has(x.Key()) {
				n++
			}
		}
		if n > state.MaxSuppressed {
			return listRefused("the list of shard %d has %d readers, and at most %d have room", s.ID(), list.Len(),
				state.MaxSuppressed)
		}
	}
	return nil
}

// listingsOf returns the listings of ids that have been checked, users first.
func listingsOf(q *status.ListRequest, salt event.Salt) []event.Listing {
	lister, out := event.NewLister(salt), make([]event.Listing, 0, q.Len())
	for _, id := range q.Users {
		if x, err := lister.Listing(event.SuppressUser, id); err == nil {
			out = append(out, x)
		}
	}
	for _, id := range q.Sessions {
		if x, err := lister.Listing(event.SuppressSession, id); err == nil {
			out = append(out, x)
		}
	}
	return out
}

// Hash returns what the audit log has of the ids of a request; "" if this node knows no salt yet.
func (l *lists) Hash(q *status.ListRequest) string {
	shards := l.commands.shards()
	if len(shards) == 0 || q.Len() == 0 {
		return ""
	}
	salt := shards[0].Store().Suppression().Salt
	if salt == (event.Salt{}) {
		return ""
	}
	return hashOf(listingsOf(q, salt))
}

// hashOf returns the hash of one listing, of several the SHA-256 of their hashes in ascending order; "" of none.
func hashOf(listings []event.Listing) string {
	switch len(listings) {
	case 0:
		return ""
	case 1:
		return hex.EncodeToString(listings[0].Hash[:])
	}
	hashes := make([]string, len(listings))
	for i := range listings {
		hashes[i] = string(listings[i].Hash[:])
	}
	slices.Sort(hashes)
	sum := sha256.Sum256([]byte(strings.Join(hashes, "")))
	return hex.EncodeToString(sum[:])
}

// saltOf returns the salt of shard 0, which never changes: this node's replica may say it, or else the leader.
func (l *lists) saltOf(ctx context.Context, q *status.ListRequest) (event.Salt, error) {
	if salt := l.commands.shards()[0].Store().Suppression().Salt; salt != (event.Salt{}) {
		return salt, nil
	}
	r, err := l.call(ctx, &listCall{Op: listInfo, Verb: q.Op, Asker: q.Asker})
	if err != nil {
		return event.Salt{}, notChanged(err)
	}
	return r.Salt, nil
}

// notChanged is the error of a question, which changes nothing whatever came of it.
func notChanged(err error) error {
	if errors.Is(err, status.ErrRefused) {
		return err
	}
	return fmt.Errorf("%w: %w", status.ErrRefused, err)
}

// change adds readers or removes them, in shard 0 first.
func (l *lists) change(ctx context.Context, q *status.ListRequest) (*status.ListOutcome, error) {
	add := q.Op == status.ListAdd
	salt, err := l.saltOf(ctx, q)
	if err != nil {
		return nil, err
	}
	out := l.outcome(q)
	if salt == (event.Salt{}) {
		if !add {
			return out, nil // nobody was ever listed
		}
		if _, err := io.ReadFull(l.random, salt[:]); err != nil {
			return nil, listRefused("no random salt can be drawn: %w", err)
		}
	}
	c := listCall{Op: listChange, Verb: q.Op, Asker: q.Asker}
	var first *listReply
	for try := 1; ; try++ {
		c.Salt, c.Listings = salt, listingsOf(q, salt)
		if first, err = l.call(ctx, &c); err != nil {
			return nil, err
		}
		if first.Why != state.SuppressBySalt {
			break
		}
		if try == listTries || first.Salt == (event.Salt{}) {
			return nil, listRefused("shard 0 takes no salt, since other nodes set it at the same time; ask again")
		}
		salt = first.Salt // another node was first
	}
	if err := why(first.Why, 0); err != nil {
		return nil, err
	}
	out.Hash, out.Changed, out.Readers = hashOf(c.Listings), first.Changed, first.Info.Count
	out.At = l.now().UTC().Truncate(time.Millisecond)
	out.Shards[0] = changed(0, add, first.Changed)
	l.eachOther(out, func(shard uint32) status.ListShard {
		c := c
		c.Shard = shard
		r, err := l.call(ctx, &c)
		if err == nil && !(r.Why == state.SuppressBySalt && r.Salt == event.Salt{} && !add) { // nobody was listed there
			err = why(r.Why, shard)
		}
		if err != nil {
			return status.ListShard{Shard: shard, Error: err.Error()}
		}
		return changed(shard, add, r.Changed)
	})
	if add {
		l.notStopped(ctx, q, out)
	}
	return out, nil
}

func changed(shard uint32, add bool, n int) status.ListShard {
	if add {
		return status.ListShard{Shard: shard, Added: n}
	}
	return status.ListShard{Shard: shard, Removed: n}
}

// why returns the error of a refusal by the state, nil if the entry was taken.
func why(r state.SuppressRefusal, shard uint32) error {
	switch r {
	case state.SuppressTaken:
		return nil
	case state.SuppressByLevel:
		return listRefused("shard %d has a level in which no reader can be suppressed", shard)
	case state.SuppressByLimit:
		return listRefused("the list of shard %d would have more than %d readers", shard, state.MaxSuppressed)
	case state.SuppressBySalt:
		return listRefused("the list of shard %d has another salt than that of shard 0, so its hashes are of no use "+
			"there", shard)
	}
	return listRefused("shard %d refuses the change for reason %d, which this version does not know", shard, r)
}

// outcome returns an outcome in which every shard has done what was asked, and nothing has changed.
func (l *lists) outcome(q *status.ListRequest) *status.ListOutcome {
	out := &status.ListOutcome{IDs: q.Len(), Whole: true, SessionsWhole: true,
		At: l.now().UTC().Truncate(time.Millisecond)}
	for _, s := range l.commands.shards() {
		out.Shards = append(out.Shards, status.ListShard{Shard: s.ID()})
	}
	return out
}

// eachOther does something for each shard but 0, for all at once: one that does not answer holds up none of the others.
func (l *lists) eachOther(out *status.ListOutcome, do func(shard uint32) status.ListShard) {
	var all sync.WaitGroup
	for i := range out.Shards[1:] {
		all.Go(func() { out.Shards[i+1] = do(out.Shards[i+1].Shard) })
	}
	all.Wait()
	for _, s := range out.Shards {
		out.Whole = out.Whole && s.Error == ""
	}
}

// notStopped says what goes on all the same.
func (l *lists) notStopped(ctx context.Context, q *status.ListRequest, out *status.ListOutcome) {
	out.NotStopped = []string{
		"sessions that are open: they are written when they end; list them by their ids, too, and no later record of " +
			"theirs is let in",
		"records without the id, also in a session that is known to be that reader's",
		"other spellings of the id, and fields other than user_id and session_id",
		"dead letters that wait to be written",
		"rows and dead letters that have been written, Kafka's records, and copies of the data folder",
	}
	if len(q.Users) == 0 {
		return
	}
	users := map[uint64]bool{}
	for _, id := range q.Users {
		users[event.UserOf(id)] = true
	}
	ctx, cancel := context.WithTimeout(ctx, sessionsWithin)
	defer cancel()
	for _, s := range l.commands.shards() {
		if changesUsers(s) {
			out.SessionsWhole = false // the state does not know the users by these ids
		}
		ids, whole, err := s.Store().OpenSessionsOf(ctx, users, maxOpenSessions)
		out.OpenSessions = append(out.OpenSessions, ids...)
		out.SessionsWhole = out.SessionsWhole && whole && err == nil
	}
	if slices.Sort(out.OpenSessions); len(out.OpenSessions) > maxOpenSessions {
		out.OpenSessions, out.SessionsWhole = out.OpenSessions[:maxOpenSessions], false
	}
}

func changesUsers(s *shard.Shard) bool {
	return slices.ContainsFunc(s.Store().Peek().Rules.Event.Privacy, func(p event.Privacy) bool {
		return p.Field == "user_id" || p.Field == "session_id"
	})
}

// check asks the leader of every shard since when it has the ids.
func (l *lists) check(ctx context.Context, q *status.ListRequest) (*status.ListOutcome, error) {
	salt, err := l.saltOf(ctx, q)
	if err != nil {
		return nil, err
	}
	out := l.outcome(q)
	listings := listingsOf(q, salt)
	for i := range listings {
		f := status.ListFound{Kind: listings[i].Kind.String(), Shards: []uint32{}, Without: []uint32{},
			Unknown: []uint32{}}
		if salt != (event.Salt{}) {
			f.Hash = hex.EncodeToString(listings[i].Hash[:])
		}
		out.Found = append(out.Found, f)
	}
	if salt == (event.Salt{}) {
		return out, nil
	}
	out.Hash = hashOf(listings)
	replies := make([]*listReply, len(out.Shards))
	ask := func(shard uint32) (s status.ListShard) {
		s.Shard = shard
		r, err := l.call(ctx, &listCall{Op: listLook, Verb: q.Op, Asker: q.Asker, Shard: shard, Salt: salt,
			Listings: listings})
		if err == nil && len(r.Since) != len(listings) {
			err = fmt.Errorf("shard %d tells of %d ids instead of %d", shard, len(r.Since), len(listings))
		}
		if err != nil {
			s.Error = err.Error()
			return s
		}
		replies[shard] = r
		return s
	}
	out.Shards[0] = ask(0)
	l.eachOther(out, ask)
	for shard, r := range replies {
		if r != nil && shard == 0 {
			out.Readers = r.Info.Count
		}
		for i := range out.Found {
			f, id := &out.Found[i], uint32(shard)
			switch {
			case r == nil:
				f.Unknown = append(f.Unknown, id)
			case r.Since[i] == 0:
				f.Without = append(f.Without, id)
			default:
				f.Shards = append(f.Shards, id)
				if at := time.UnixMilli(r.Since[i]).UTC(); shard == 0 || replies[0] == nil && f.Since == nil {
					f.Listed, f.Since = true, &at
				}
			}
		}
	}
	return out, nil
}

// Page returns at most n readers of shard 0's list, as this node has it, those from a place on.
func (l *lists) Page(from, n int) (*status.ListPage, error) {
	p := &status.ListPage{From: from, Listings: []status.ListedReader{}}
	shards := l.commands.shards()
	if len(shards) == 0 {
		return nil, listRefused("the shards of this node do not run yet")
	}
	store := shards[0].Store()
	list := store.Suppression()
	p.Number, p.Readers = list.Number, list.Len()
	var after *event.ListingKey
	if from > 0 {
		k, ok := list.At(from - 1)
		if !ok {
			return p, nil
		}
		after = &k
	}
	page, now, err := store.Listings(after, n)
	if err != nil {
		return nil, err
	}
	p.Number, p.Readers = now.Number, now.Len()
	if next := from + len(page); len(page) == n && next < now.Len() {
		p.Next = &next
	}
	// The store's order is that of Listing.Fast, of which nothing is to be seen.
	slices.SortFunc(page, func(a, b state.Listed) int { return slices.Compare(a.Hash[:], b.Hash[:]) })
	for i := range page {
		p.Listings = append(p.Listings, status.ListedReader{Kind: page[i].Kind.String(),
			Hash: hex.EncodeToString(page[i].Hash[:]), Since: time.UnixMilli(page[i].At).UTC(), By: page[i].By})
	}
	return p, nil
}

// byOf names who has asked, for the listings.
func byOf(a *status.Asker) string {
	return strings.TrimSpace(cmp.Or(a.Principal, "none") + " " + a.Name)
}
