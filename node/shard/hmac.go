package shard

import "deckle/event"

// Keys are the HMAC keys that a node's configuration has, by their ids. The zero value has none.
type Keys struct {
	first event.KeyID
	byID  map[event.KeyID][]byte
}

// Add adds a key, which must not change any more; the first one is that of new rules. It says whether the key is new.
func (k *Keys) Add(key []byte) bool {
	id := event.KeyIDOf(key)
	if k.byID == nil {
		k.first, k.byID = id, map[event.KeyID][]byte{}
	}
	if k.byID[id] != nil {
		return false
	}
	k.byID[id] = key
	return true
}

// Key returns the key of an id, nil if there is none.
func (k Keys) Key(id event.KeyID) []byte { return k.byID[id] }

// First is the id of the first key, zero if there is none.
func (k Keys) First() event.KeyID { return k.first }

// lacks returns the ids of the keys that a shard needs and the node does not have.
func (k Keys) lacks(needed []event.KeyID) (ids []string) {
	for _, id := range needed {
		if k.byID[id] == nil {
			ids = append(ids, id.String())
		}
	}
	return ids
}
