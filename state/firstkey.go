package state

import (
	"encoding/binary"
	"strings"

	"deckle/event"
)

// This file compares the Kafka keys of a session's records (level 2). A session is whole only where its records are in
// one shard, and its shard follows from their key.

// firstKey is the key under which a session's first record came. The zero value is an unknown one: that of a session
// which level 1 has begun, until a record of level 2 comes.
type firstKey struct {
	known bool
	class event.KeyClass
	hash  uint32 // event.Item.HashKey, for KeyUser and KeyOther
	// user is one whose id is the key, 0 if none is known yet. It saves the hash of nearly every record that comes
	// under a user id. It is no part of the session's value, and no result depends on it.
	user uint64
}

// hasHash says whether a key of the class is told from others by its hash: a session has one id only.
func hasHash(c event.KeyClass) bool { return c == event.KeyUser || c == event.KeyOther }

// set takes the key of a session's first record.
func (k *firstKey) set(it *event.Item) {
	*k = firstKey{known: true, class: it.Key}
	if hasHash(it.Key) {
		k.hash = it.HashKey()
	}
	if it.Key == event.KeyUser {
		k.user = it.UserID
	}
}

// same says whether a record has come under the key, which is known. A key that one event names as its user, and
// another does not, is one key all the same.
func (k *firstKey) same(it *event.Item) bool {
	if !hasHash(k.class) || !hasHash(it.Key) {
		return k.class == it.Key
	}
	if it.Key == event.KeyUser && it.UserID != 0 && it.UserID == k.user {
		return true
	}
	if it.HashKey() != k.hash {
		return false
	}
	if it.Key == event.KeyUser {
		k.user = it.UserID
	}
	return true
}

// encode appends the key: a byte, 0 for an unknown one, else the class and 1; then the hash, if the class has one.
func (k *firstKey) encode(dst []byte) []byte {
	if !k.known {
		return append(dst, 0)
	}
	dst = append(dst, 1+byte(k.class))
	if hasHash(k.class) {
		dst = binary.LittleEndian.AppendUint32(dst, k.hash)
	}
	return dst
}

func (d *decoder) firstKey() (k firstKey) {
	b := d.byte()
	if b == 0 {
		return k
	}
	k.known, k.class = true, event.KeyClass(b-1)
	if !k.class.Valid() && d.err == nil {
		d.fail("class of a key")
	}
	if !hasHash(k.class) {
		return k
	}
	if p := d.bytes(4); p != nil {
		k.hash = binary.LittleEndian.Uint32(p)
	}
	return k
}

// KeyCounts are what the keys of records say of their sessions, since the shard was created (level 2). Counted are
// events, session_ends and duplicates of sessions whose first key is known; a shard sees of a session what is in its
// own partitions.
type KeyCounts struct {
	Records int64 `json:",omitempty"` // those that were compared
	// Keys are those of Records that came under another key than the first record of their session, and Logins those
	// of Keys where one of the two keys, and only one, is the user's id.
	Keys   int64 `json:",omitempty"`
	Logins int64 `json:",omitempty"`
	// Partitions are those of Records that came under the same key, but in another partition than the first record of
	// their session.
	Partitions int64 `json:",omitempty"`
	// Example is one of them, the first of the latest epoch that has any; nil if there are none. It is never changed.
	Example *KeyExample `json:",omitempty"`
}

// KeyExample is a record that came under another key, or in another partition, than the first one of its session.
type KeyExample struct {
	Epoch           uint64
	SessionID       string
	First, Other    Position       // of the two records
	FirstKey, Under event.KeyClass // their keys
}

// compare counts a record of a session whose first record came under a key at a position.
func (c *KeyCounts) compare(k *firstKey, first Position, it *event.Item, epoch uint64) {
	c.Records++
	switch {
	case !k.same(it):
		c.Keys++
		if (k.class == event.KeyUser) != (it.Key == event.KeyUser) {
			c.Logins++
		}
	case it.Partition != first.Partition && it.Key != event.KeyNone:
		c.Partitions++
	default:
		return
	}
	if c.Example == nil || c.Example.Epoch != epoch {
		c.Example = &KeyExample{Epoch: epoch, SessionID: strings.Clone(it.SessionID), First: first,
			Other: Position{it.Partition, it.Offset}, FirstKey: k.class, Under: it.Key}
	}
}
