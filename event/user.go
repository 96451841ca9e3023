package event

import (
	"math"
	"strconv"

	"github.com/cespare/xxhash/v2"
)

// MaxUserKey is the greatest length in bytes of a user_id that is a text; a longer one is WrongType.
const MaxUserKey = 255

// hashedUser is the bit that tells a user whose id is a text from one whose id is a number.
const hashedUser = 1 << 63

// UserHash returns the id of a user who is known by a text: XXH64 with seed 0, with the top bit set. It never changes.
func UserHash(key string) uint64 { return xxhash.Sum64String(key) | hashedUser }

// parseUser returns the user that a text means: the number if it is the canonical decimal form of one, else its hash,
// and then the text is the user's key. The text is not empty.
func parseUser(s string) (id uint64, key string) {
	if len(s) <= 19 && (s[0] != '0' || s == "0") {
		n, ok := uint64(0), true
		for i := range len(s) {
			ok = ok && digit(s[i])
			n = n*10 + uint64(s[i]-'0')
		}
		if ok && n <= math.MaxInt64 {
			return n, ""
		}
	}
	return UserHash(s), s
}

// UserOf returns the id under which the state has the user whom a text means. The text is not empty.
func UserOf(text string) uint64 {
	id, _ := parseUser(text)
	return id
}

// KeyClass says what the Kafka key of a record is, seen from its event.
type KeyClass uint8

// The classes of keys. The numeric values are part of the encoding of batches and never change.
const (
	KeyNone    KeyClass = iota // no key, or an empty one
	KeySession                 // the session id
	KeyUser                    // the user id, as a number or text
	KeyOther
	numKeyClasses
)

// Valid says whether k is one of the classes.
func (k KeyClass) Valid() bool { return k < numKeyClasses }

// String says what the key is, as it follows "under".
func (k KeyClass) String() string {
	return [...]string{"no key", "the session id", "the user id", "another key", "an unknown key"}[min(k,
		numKeyClasses)]
}

// SetKey says under which Kafka key the record of the item came: Key, and KeyHash for a key of class KeyOther.
func (it *Item) SetKey(key []byte) {
	it.Key, it.KeyHash = KeyOther, 0
	switch {
	case len(key) == 0:
		it.Key = KeyNone
	case string(key) == it.SessionID:
		it.Key = KeySession
	case it.UserKey != "" && string(key) == it.UserKey, it.isUser(key):
		it.Key = KeyUser
	default:
		it.KeyHash = uint32(xxhash.Sum64(key))
	}
}

func (it *Item) isUser(key []byte) bool {
	if it.UserID == 0 || it.UserKey != "" || len(key) > 19 {
		return false
	}
	var p [20]byte
	return string(strconv.AppendUint(p[:0], it.UserID, 10)) == string(key)
}

// HashKey returns the hash of the record's Kafka key, which KeyHash is for a key of class KeyOther: two keys of one
// class, or of the classes KeyUser and KeyOther, are the same if their hashes are. It is 0 for no key.
func (it *Item) HashKey() uint32 {
	switch it.Key {
	case KeySession:
		return uint32(xxhash.Sum64String(it.SessionID))
	case KeyUser:
		if it.UserKey != "" {
			return uint32(it.UserID) // UserHash has the same lower bits
		}
		var p [20]byte
		return uint32(xxhash.Sum64(strconv.AppendUint(p[:0], it.UserID, 10)))
	}
	return it.KeyHash
}

// HashRecord returns a hash of a record's offset, key and value, by which the same record is known again at the same
// offset. It is never 0, and tells an empty value from none.
func HashRecord(offset int64, key, value []byte) uint64 {
	var d xxhash.Digest
	d.Reset()
	var p [24]byte
	putUint64 := func(at int, n uint64) {
		for i := range 8 {
			p[at+i] = byte(n >> (8 * i))
		}
	}
	length := func(b []byte) uint64 {
		if b == nil {
			return 0
		}
		return uint64(len(b)) + 1
	}
	putUint64(0, uint64(offset))
	putUint64(8, length(key))
	putUint64(16, length(value))
	_, _ = d.Write(p[:])
	_, _ = d.Write(key)
	_, _ = d.Write(value)
	return max(d.Sum64(), 1)
}
