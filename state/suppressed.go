package state

import (
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"deckle/event"
	"deckle/schema/level"
)

// suppressedReaders is the list of a store: whole in memory, by its keys, and with its values in Pebble.
type suppressedReaders struct {
	list  atomic.Pointer[event.Suppression] // never nil once it is loaded
	fresh map[event.ListingKey]*Listed      // since the last checkpoint; nil for what was removed
}

// change changes the list of a shard of level l, or refuses the entry whole. It returns by how many bytes the next
// checkpoint grows, too. What is on the list is told by the keys in memory alone, and these are the keys of Pebble, so
// it does not depend on which listings a checkpoint has written (S1).
func (r *suppressedReaders) change(e *SuppressEntry, l level.Level) (res *SuppressResult, dirty int64) {
	list := r.list.Load()
	refuse := func(why SuppressRefusal) (*SuppressResult, int64) {
		return &SuppressResult{Refused: why, List: suppressInfo(list), Salt: list.Salt}, 0
	}
	add := e.Op == SuppressAdd
	switch {
	case l < level.Guarded:
		return refuse(SuppressByLevel)
	case list.Salt == event.Salt{} && !add, list.Salt != event.Salt{} && list.Salt != e.Salt:
		return refuse(SuppressBySalt)
	}
	changed := make([]*event.Listing, 0, len(e.Listings))
	for i := range e.Listings {
		if l := &e.Listings[i]; list.Has(l.Key()) != add {
			changed = append(changed, l)
		}
	}
	slices.SortStableFunc(changed, func(a, b *event.Listing) int { return a.Key().Compare(b.Key()) })
	changed = slices.CompactFunc(changed, func(a, b *event.Listing) bool { return a.Key() == b.Key() })
	if add && list.Len()+len(changed) > MaxSuppressed {
		return refuse(SuppressByLimit)
	}
	if list.Salt == (event.Salt{}) {
		list = list.WithSalt(e.Salt)
		dirty++
	}
	keys := make([]event.ListingKey, len(changed))
	for i, l := range changed {
		keys[i] = l.Key()
		if add {
			r.fresh[keys[i]] = &Listed{*l, e.Now, e.By}
		} else {
			r.fresh[keys[i]] = nil
		}
		dirty += int64(150 + len(e.By))
	}
	list = list.Change(add, keys)
	r.list.Store(list)
	return &SuppressResult{Changed: len(changed), List: suppressInfo(list), Salt: list.Salt}, dirty
}

// stored is what meta has of the list.
func (r *suppressedReaders) stored() storedSuppress {
	l := r.list.Load()
	return storedSuppress{l.Number, l.Salt, int64(l.Len()), l.Sum}
}

// load reads the list, and holds it to what meta says of it.
func (r *suppressedReaders) load(db pebble.Reader, m *storedSuppress) error {
	r.fresh = map[event.ListingKey]*Listed{}
	var b event.SuppressionLoader
	err := scan(db, []byte{prefixSuppressed}, []byte{prefixSuppressed + 1}, func(k, v []byte) error {
		key, err := decodeListingKey(k)
		if err == nil && !b.Add(key) {
			err = fmt.Errorf("%w: listing %x out of order", ErrCorrupt, k)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("reading suppressed readers: %w", err)
	}
	list := b.List(m.Number, m.Salt)
	// gofail: var bugForgetSuppressed struct{}
	// list = (&event.Suppression{Number: m.Number}).WithSalt(m.Salt)
	// m.Count, m.Sum = 0, 0
	if int64(list.Len()) != m.Count || list.Sum != m.Sum {
		return fmt.Errorf("%w: %d suppressed readers with sum %016x, meta has %d with %016x", ErrCorrupt, list.Len(),
			list.Sum, m.Count, m.Sum)
	}
	r.list.Store(list)
	return nil
}

// write writes what has changed since the last checkpoint.
func (r *suppressedReaders) write(b *pebble.Batch) error {
	for k, l := range r.fresh {
		key := appendListingKey(nil, k)
		if l == nil {
			if err := b.Delete(key, nil); err != nil {
				return err
			}
			continue
		}
		if err := b.Set(key, l.encode(nil), nil); err != nil {
			return err
		}
	}
	return nil
}

// forget forgets what a checkpoint has written.
func (r *suppressedReaders) forget() {
	if len(r.fresh) > 0 {
		r.fresh = map[event.ListingKey]*Listed{}
	}
}

// overlay puts what no checkpoint has written yet over stored listings, by their keys.
func (r *suppressedReaders) overlay(stored map[string]string) {
	for k, l := range r.fresh {
		if key := string(appendListingKey(nil, k)); l != nil {
			stored[key] = string(l.encode(nil))
		} else {
			delete(stored, key)
		}
	}
}
