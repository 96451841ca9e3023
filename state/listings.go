package state

import (
	"errors"
	"fmt"
	"slices"

	"deckle/event"
)

// Suppression returns the list of suppressed readers as of the latest entry that has been applied. It does not wait for
// the entry that is being applied.
func (s *Store) Suppression() *event.Suppression { return s.readers.list.Load() }

// Listings returns at most n listings, ascending by their keys, those after a key only; nil begins at the first. The
// list as it is now is returned, too: pages of lists with different numbers may lack listings, or have some twice.
func (s *Store) Listings(after *event.ListingKey, n int) ([]Listed, *event.Suppression, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.db == nil {
		return nil, nil, ErrClosed
	}
	var page []Listed
	for k, l := range s.readers.fresh { // at most those of one checkpoint
		if l != nil && (after == nil || k.Compare(*after) > 0) {
			page = append(page, *l)
		}
	}
	from := []byte{prefixSuppressed}
	if after != nil {
		from = append(appendListingKey(nil, *after), 0)
	}
	stored := 0
	err := scan(s.db, from, []byte{prefixSuppressed + 1}, func(k, v []byte) error {
		l, err := decodeListed(k, v)
		if err != nil {
			return err
		}
		if _, changed := s.readers.fresh[l.Key()]; changed {
			return nil
		}
		page = append(page, l)
		if stored++; stored >= n {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, nil, fmt.Errorf("state: listings: %w", err)
	}
	slices.SortFunc(page, func(a, b Listed) int { return a.Key().Compare(b.Key()) })
	return page[:min(n, len(page))], s.readers.list.Load(), nil
}

// Listed returns what is known of the listing with a key; ok is false if it is not on the list.
func (s *Store) Listed(k event.ListingKey) (l Listed, ok bool, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.db == nil {
		return l, false, ErrClosed
	}
	if fresh, changed := s.readers.fresh[k]; changed {
		if fresh == nil {
			return l, false, nil
		}
		return *fresh, true, nil
	}
	if !s.readers.list.Load().Has(k) {
		return l, false, nil
	}
	key := appendListingKey(nil, k)
	v, closer, err := s.db.Get(key)
	if err == nil {
		l, err = decodeListed(key, v)
		err = errors.Join(err, closer.Close())
	}
	if err != nil {
		return l, false, fmt.Errorf("state: listing %x: %w", key, err)
	}
	return l, true, nil
}

// errEnough ends a scan.
var errEnough = errors.New("enough")
