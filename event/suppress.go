package event

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"slices"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"
)

// SuppressKind says which id of a record a listing is about. The numeric values are part of encodings and never change.
type SuppressKind uint8

// The kinds of listings.
const (
	SuppressUser    SuppressKind = 1 // user_id
	SuppressSession SuppressKind = 2 // session_id
)

// Valid says whether k is one of the kinds.
func (k SuppressKind) Valid() bool { return k == SuppressUser || k == SuppressSession }

// String returns the name of the kind in metrics and answers.
func (k SuppressKind) String() string {
	switch k {
	case SuppressUser:
		return "user"
	case SuppressSession:
		return "session"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Salt is what ids are hashed with before they are listed. It is random and one for the cluster: ids of readers are few
// and can be guessed, so whoever knows the salt can try them.
type Salt [32]byte

// MarshalText implements encoding.TextMarshaler.
func (s Salt) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, s[:]), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Salt) UnmarshalText(text []byte) error {
	if len(text) != 2*len(s) {
		return fmt.Errorf("event: salt of %d bytes, want %d", len(text), 2*len(s))
	}
	_, err := hex.Decode(s[:], text)
	return err
}

// Listing is one id on the list of suppressed readers. It does not have the id.
type Listing struct {
	Kind SuppressKind
	// Fast is XXH64 of eight bytes that follow from the salt, the kind, a zero byte and the id. It is looked up for
	// every record. It is not for other eyes than the nodes': it can be computed a thousand times faster than Hash.
	Fast uint64
	// Hash is HMAC-SHA256, keyed with the salt, of the kind, a zero byte and the id.
	Hash [sha256.Size]byte
}

// Key returns what the list knows the listing by.
func (l *Listing) Key() ListingKey { return ListingKey{l.Fast, binary.BigEndian.Uint64(l.Hash[:])} }

// ListingKey is what is kept in memory of a listing: 16 bytes. Two ids with the same one would be taken for each other;
// half of it are bits of the HMAC, so nobody can make such ids.
type ListingKey struct {
	Fast uint64
	Hash uint64 // the first 8 bytes of Listing.Hash, big-endian
}

// Compare orders keys.
func (k ListingKey) Compare(o ListingKey) int {
	return cmp.Or(cmp.Compare(k.Fast, o.Fast), cmp.Compare(k.Hash, o.Hash))
}

// ListingBytes is the length of an encoded listing: kind 1, fast 8, hash 32.
const ListingBytes = 1 + 8 + sha256.Size

// Append appends the encoded listing to dst and returns the result.
func (l *Listing) Append(dst []byte) []byte {
	return append(binary.BigEndian.AppendUint64(append(dst, byte(l.Kind)), l.Fast), l.Hash[:]...)
}

// DecodeListing returns the listing that begins p, which has ListingBytes bytes at least; ok is false if it has no kind
// that is known.
func DecodeListing(p []byte) (l Listing, ok bool) {
	l.Kind, l.Fast = SuppressKind(p[0]), binary.BigEndian.Uint64(p[1:])
	copy(l.Hash[:], p[9:ListingBytes])
	return l, l.Kind.Valid()
}

// MaxSuppressID is the greatest length in bytes of an id that can be listed. No record with a longer one is accepted.
const MaxSuppressID = 255

// CheckSuppressID returns an error that says why an id cannot be listed. It is compared byte by byte with what records
// have: a user_id that is a number counts as its decimal digits.
func CheckSuppressID(kind SuppressKind, id string) error {
	switch {
	case !kind.Valid():
		return fmt.Errorf("event: a listing of %s", kind)
	case id == "":
		return errors.New("an empty id is nobody's")
	case len(id) > MaxSuppressID:
		return fmt.Errorf("an id of %d bytes, at most %d are accepted in a record", len(id), MaxSuppressID)
	case !utf8.ValidString(id):
		return errors.New("the id is not valid UTF-8, and no record with such an id is accepted")
	case kind == SuppressUser && id == "0":
		return errors.New("user 0 stands for all readers who are not known")
	}
	return nil
}

// Lister makes listings of ids under one salt. It is not safe for concurrent use.
type Lister struct {
	mac   hash.Hash
	plain []byte // eight bytes for Fast, and then what is hashed
	sum   [sha256.Size]byte
}

const listerPrefix = 8

// NewLister returns a Lister. The eight bytes by which Fast is salted are an HMAC of the salt: XXH64 can be undone, and
// what is found by that must not be a part of the salt.
func NewLister(salt Salt) *Lister {
	l := &Lister{mac: hmac.New(sha256.New, salt[:])}
	l.mac.Write([]byte("deckle suppress 1"))
	l.plain = append(l.plain, l.mac.Sum(nil)[:listerPrefix]...)
	return l
}

// Listing returns the listing of an id, and CheckSuppressID's error if it cannot be listed.
func (l *Lister) Listing(kind SuppressKind, id string) (Listing, error) {
	if err := CheckSuppressID(kind, id); err != nil {
		return Listing{}, err
	}
	return Listing{Kind: kind, Fast: l.fast(kind, id), Hash: l.hash()}, nil
}

// fast returns Listing.Fast of an id, and keeps what is hashed for hash.
func (l *Lister) fast(kind SuppressKind, id string) uint64 {
	l.plain = append(append(l.plain[:listerPrefix], byte(kind), 0), id...)
	return xxhash.Sum64(l.plain)
}

// hash returns Listing.Hash of the id that fast was last called with.
func (l *Lister) hash() [sha256.Size]byte {
	l.mac.Reset()
	l.mac.Write(l.plain[listerPrefix:])
	return [sha256.Size]byte(l.mac.Sum(l.sum[:0]))
}

// Suppression is a list of suppressed readers. It never changes, so any goroutine may read it: a change makes another
// one. The zero value is the list of a shard that has never had one.
type Suppression struct {
	// Number counts the changes of the list. Records are judged by one list, and their batch names its number.
	Number uint64
	Salt   Salt // zero if none was set
	// SaltID names the salt and tells nothing of it; zero if there is none.
	SaltID KeyID
	// Sum adds up ListingKey.Hash of all listings: lists of one salt are the same if Len and Sum are.
	Sum uint64

	n int
	// parts are the keys by the highest bits of Fast, ascending; nil if there are none. A change copies the parts that
	// it touches: one id among a million costs 40 KB, and not 16 MB.
	parts *[1 << partBits][]ListingKey
}

const partBits = 10

func partOf(fast uint64) int { return int(fast >> (64 - partBits)) }

// Len returns the number of listings.
func (s *Suppression) Len() int { return s.n }

// Bytes returns about what the list takes in memory.
func (s *Suppression) Bytes() int64 {
	if s.parts == nil {
		return 0
	}
	return int64(len(s.parts))*24 + 16*int64(s.n)
}

// Has says whether the list has a key.
func (s *Suppression) Has(k ListingKey) bool {
	if s.parts == nil {
		return false
	}
	_, ok := slices.BinarySearchFunc(s.parts[partOf(k.Fast)], k, ListingKey.Compare)
	return ok
}

// At returns the key with i keys before it, in ascending order; ok is false if there is none.
func (s *Suppression) At(i int) (k ListingKey, ok bool) {
	if i < 0 || i >= s.n {
		return k, false
	}
	for p := range s.parts {
		part := s.parts[p]
		if i < len(part) {
			return part[i], true
		}
		i -= len(part)
	}
	return k, false
}

// withFast returns the keys that have the fast value, and what follows them.
func (s *Suppression) withFast(fast uint64) []ListingKey {
	part := s.parts[partOf(fast)]
	from, to := 0, len(part)
	for from < to {
		if mid := int(uint(from+to) >> 1); part[mid].Fast < fast {
			from = mid + 1
		} else {
			to = mid
		}
	}
	return part[from:]
}

// WithSalt returns the list, which must have no salt and no listings, with a salt.
func (s *Suppression) WithSalt(salt Salt) *Suppression {
	next := *s
	next.Salt, next.SaltID = salt, KeyIDOf(salt[:])
	return &next
}

// Change returns the list with the keys added or removed, under the next number; the same list if there are none. The
// keys must be ascending, and none of them, or all of them, in the list.
func (s *Suppression) Change(add bool, keys []ListingKey) *Suppression {
	if len(keys) == 0 {
		return s
	}
	next := *s
	next.Number++
	next.parts = new([1 << partBits][]ListingKey)
	if s.parts != nil {
		*next.parts = *s.parts
	}
	for _, k := range keys {
		if add {
			next.Sum += k.Hash
			next.n++
		} else {
			next.Sum -= k.Hash
			next.n--
		}
	}
	for len(keys) > 0 {
		p, n := partOf(keys[0].Fast), 1
		for n < len(keys) && partOf(keys[n].Fast) == p {
			n++
		}
		if add {
			next.parts[p] = merge(next.parts[p], keys[:n])
		} else {
			next.parts[p] = without(next.parts[p], keys[:n])
		}
		keys = keys[n:]
	}
	if next.n == 0 {
		next.parts = nil
	}
	return &next
}

func merge(a, b []ListingKey) []ListingKey {
	out := make([]ListingKey, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if a[0].Compare(b[0]) < 0 {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return append(append(out, a...), b...)
}

func without(a, b []ListingKey) []ListingKey {
	out := make([]ListingKey, 0, max(len(a)-len(b), 0))
	for _, k := range a {
		if len(b) > 0 && k == b[0] {
			b = b[1:]
			continue
		}
		out = append(out, k)
	}
	return out
}

// SuppressionLoader makes a list of keys that come in ascending order, without holding more of them than the list does.
type SuppressionLoader struct {
	list Suppression
	last ListingKey
}

// Add takes the next key. It returns false if it is not greater than the one before.
func (b *SuppressionLoader) Add(k ListingKey) bool {
	s := &b.list
	if s.parts == nil {
		s.parts = new([1 << partBits][]ListingKey)
	} else {
		if b.last.Compare(k) >= 0 {
			return false
		}
		if p := partOf(b.last.Fast); p != partOf(k.Fast) {
			s.parts[p] = slices.Clone(s.parts[p]) // of the size that it has, not of that to which it has grown
		}
	}
	p := partOf(k.Fast)
	s.parts[p] = append(s.parts[p], k)
	s.n++
	s.Sum += k.Hash
	b.last = k
	return true
}

// List returns the list, under its number and its salt; zero if it has none. The loader must not be used afterwards.
func (b *SuppressionLoader) List(number uint64, salt Salt) *Suppression {
	s := b.list
	if s.Number = number; salt != (Salt{}) {
		s.Salt, s.SaltID = salt, KeyIDOf(salt[:])
	}
	return &s
}
