package state

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/event"
	"deckle/schema/level"
)

// guarded is a store of level 3 with nothing in it.
func guarded(t *testing.T, fs vfs.FS) (*Store, func(entry []byte) any) {
	t.Helper()
	s, err := Open(context.Background(), Options{FS: fs, Dir: "shard"})
	must(t, err)
	index := uint64(0)
	apply := func(entry []byte) any {
		t.Helper()
		index++
		res, err := s.Apply(index, 1, entry)
		must(t, err)
		return res
	}
	apply(EncodeConfig(testConfig()))
	apply(EncodeLevel(1000*t0, level.Guarded))
	return s, apply
}

func madeUp(n int) event.Listing {
	var p [8]byte
	binary.BigEndian.PutUint64(p[:], uint64(n))
	l := event.Listing{Kind: event.SuppressUser, Hash: sha256.Sum256(p[:])}
	l.Fast = binary.BigEndian.Uint64(l.Hash[16:])
	return l
}

// TestMillionSuppressed fills the list, opens it again, and holds it to its limit: an entry that would exceed it is
// refused whole.
func TestMillionSuppressed(t *testing.T) {
	if testing.Short() {
		t.Skip("writes a million listings")
	}
	fs := vfs.NewMem()
	s, apply := guarded(t, fs)
	salt := event.Salt{1}
	add := func(from, n int) *SuppressResult {
		e := SuppressEntry{Now: 1, Op: SuppressAdd, Salt: salt, By: "n1"}
		for i := range n {
			e.Listings = append(e.Listings, madeUp(from+i))
		}
		return apply(EncodeSuppress(&e)).(*SuppressResult)
	}
	const last = MaxSuppressed - 5
	for at := 0; at < last; at += MaxListings {
		if r := add(at, min(MaxListings, last-at)); r.Refused != SuppressTaken {
			t.Fatalf("at %d: %+v", at, r)
		}
	}
	if r := add(last, 6); r.Refused != SuppressByLimit || r.List.Count != last || r.Changed != 0 {
		t.Errorf("six, where there is room for five: %+v", r)
	}
	if r := add(last-1, 6); r.Refused != SuppressTaken || r.Changed != 5 || r.List.Count != MaxSuppressed {
		t.Errorf("six, one of which is there: %+v", r)
	}
	want := s.View().Suppress
	if want.Bytes > 17*MaxSuppressed {
		t.Errorf("%d bytes in memory", want.Bytes)
	}
	must(t, s.Checkpoint(context.Background()))
	must(t, s.Close())
	s, err := Open(context.Background(), Options{FS: fs, Dir: "shard"})
	must(t, err)
	defer func() { must(t, s.Close()) }()
	if got := s.View().Suppress; got != want {
		t.Errorf("opened %+v, want %+v", got, want)
	}
	for _, n := range []int{0, 4711, MaxSuppressed - 1} {
		l := madeUp(n)
		if got, ok, err := s.Listed(l.Key()); !ok || err != nil || got.Listing != l || got.By != "n1" {
			t.Errorf("%d: %+v, %t, %v", n, got, ok, err)
		}
	}
	var after *event.ListingKey
	seen := 0
	for {
		page, _, err := s.Listings(after, 50_000)
		must(t, err)
		if len(page) == 0 {
			break
		}
		seen += len(page)
		k := page[len(page)-1].Key()
		after = &k
	}
	if seen != MaxSuppressed {
		t.Errorf("%d listings in pages", seen)
	}
}

// TestListingsPages reads pages of a list of which some changes are in no checkpoint yet.
func TestListingsPages(t *testing.T) {
	s, apply := guarded(t, vfs.NewMem())
	defer func() { must(t, s.Close()) }()
	change := func(op SuppressOp, ns ...int) {
		e := SuppressEntry{Now: 1, Op: op, Salt: event.Salt{1}, By: "n1"}
		for _, n := range ns {
			e.Listings = append(e.Listings, madeUp(n))
		}
		if r := apply(EncodeSuppress(&e)).(*SuppressResult); r.Changed != len(ns) {
			t.Fatalf("%+v", r)
		}
	}
	change(SuppressAdd, 1, 2, 3, 4, 5, 6)
	must(t, s.Checkpoint(context.Background()))
	change(SuppressRemove, 2, 5)
	change(SuppressAdd, 7, 8, 5)
	change(SuppressRemove, 8)
	var want []event.ListingKey
	for _, n := range []int{1, 3, 4, 5, 6, 7} {
		l := madeUp(n)
		want = append(want, l.Key())
	}
	slices.SortFunc(want, event.ListingKey.Compare)
	for size := 1; size < 8; size++ {
		var got []event.ListingKey
		var after *event.ListingKey
		for {
			page, list, err := s.Listings(after, size)
			must(t, err)
			if len(page) == 0 {
				break
			}
			if len(page) > size || list.Len() != len(want) {
				t.Fatalf("%d of %d", len(page), size)
			}
			for i := range page {
				got = append(got, page[i].Key())
			}
			after = &got[len(got)-1]
		}
		if !slices.Equal(got, want) {
			t.Errorf("pages of %d: %v, want %v", size, got, want)
		}
	}
	for n := range 10 {
		l := madeUp(n)
		if _, ok, err := s.Listed(l.Key()); err != nil || ok != slices.Contains(want, l.Key()) {
			t.Errorf("%d: %t, %v", n, ok, err)
		}
	}
}

// TestSuppressedReplicas: replicas agree on list and checksum whatever checkpoints they make, also through a snapshot.
func TestSuppressedReplicas(t *testing.T) {
	for _, seed := range seeds(t, 3) {
		g := newGenerator(seed)
		var stores [2]*Store
		fs := vfs.NewMem()
		for i := range stores {
			s, err := Open(context.Background(), Options{FS: fs, Dir: fmt.Sprint("s", i),
				CheckpointBytes: []int64{0, 1}[i]})
			must(t, err)
			stores[i] = s
		}
		apply := func(index int, entry []byte) {
			var results [2]string
			for i, s := range stores {
				res, err := s.Apply(uint64(index), 1, entry)
				must(t, err)
				if r, ok := res.(*SuppressResult); ok {
					results[i] = fmt.Sprintf("%+v", *r)
				}
			}
			if results[0] != results[1] {
				t.Fatalf("seed %d, entry %d: %s and %s", seed, index, results[0], results[1])
			}
		}
		apply(1, EncodeConfig(testConfig()))
		apply(2, EncodeLevel(1000*t0, level.Guarded))
		for index := 3; index < 60; index++ {
			e := SuppressEntry{Now: int64(index), Op: SuppressOp(1 + g.r.IntN(2)),
				Salt: event.Salt{byte(1 + g.r.IntN(9)/8)}}
			for range g.r.IntN(20) {
				e.Listings = append(e.Listings, madeUp(g.r.IntN(30)))
			}
			apply(index, EncodeSuppress(&e))
		}
		must(t, stores[0].Close()) // at its last checkpoint, and from there on again by a snapshot
		_, _, err := stores[1].Snapshot("copy")
		must(t, err)
		stores[0], err = Open(context.Background(), Options{FS: fs, Dir: "s0"})
		must(t, err)
		must(t, stores[0].Restore("copy"))
		a, err := stores[0].Checksum()
		must(t, err)
		b, err := stores[1].Checksum()
		must(t, err)
		if v, w := stores[0].View().Suppress, stores[1].View().Suppress; v != w || a != b || w.Count == 0 {
			t.Errorf("seed %d: %+v with %x, and %+v with %x", seed, v, a, w, b)
		}
		for _, s := range stores {
			must(t, s.Close())
		}
	}
}

// The open sessions of users are found in memory and in Pebble, whoever else has sessions; those that are over are not.
func TestOpenSessionsOf(t *testing.T) {
	b := newBigSession(t, Options{FS: vfs.NewMem(), Dir: "shard", SessionMemoryBytes: 1})
	defer func() { must(t, b.s.Close()) }()
	user := func(sid string, user uint64, typ event.Type) {
		e := &BatchEntry{Now: t0 * 1000, Level: level.Real, Idle: []int32{1, 2}}
		e.Batch.Rules = b.s.View().Rules.Number
		it := b.item(sid, 1)
		it.UserID, it.Type = user, typ
		if typ == event.SessionEnd {
			it.ArticleID, it.Category, it.EngagementMetrics = "", "", ""
		}
		e.Batch.Items = []event.Item{it}
		e.Batch.Ranges = []event.Range{{Partition: 0, From: b.next - 1, To: b.next, LeaderEpoch: 1}}
		e.Batch.Seen = make([]event.Seen, 1)
		if r := b.apply(AppendBatch(nil, e)).(*BatchResult); r.Rejected {
			t.Fatalf("%+v", r)
		}
	}
	const n = 3 * sessionsAtOnce
	for i := range n {
		user(fmt.Sprint("a", i), uint64(1+i%3), event.ArticleView)
	}
	user("anonymous", 0, event.ArticleView)
	must(t, b.s.Checkpoint(context.Background()))
	user("z", 7, event.ArticleView)
	for users, want := range map[string]int{"1": n / 3, "2 3": 2 * n / 3, "7": 1, "9": 0, "": 0} {
		set := map[uint64]bool{0: true} // nobody's sessions are nobody's
		for u := range strings.FieldsSeq(users) {
			set[event.UserOf(u)] = true
		}
		ids, whole, err := b.s.OpenSessionsOf(context.Background(), set, n)
		if err != nil || !whole || len(ids) != want || slices.Contains(ids, "anonymous") {
			t.Errorf("users %q: %d sessions, all %t, want %d: %v", users, len(ids), whole, want, err)
		}
	}
	one := map[uint64]bool{1: true}
	if ids, whole, err := b.s.OpenSessionsOf(context.Background(), one, 5); len(ids) != 5 || whole || err != nil {
		t.Errorf("%d sessions, all %t, %v", len(ids), whole, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, whole, err := b.s.OpenSessionsOf(ctx, one, n); whole || err != nil {
		t.Errorf("without time all are seen: %v", err)
	}
}
