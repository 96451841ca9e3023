package state

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf8"

	"deckle/event"
	"deckle/schema/level"
)

const (
	// MaxSuppressed is the greatest number of listings of a shard.
	MaxSuppressed = 1_000_000
	// MaxListings is the greatest number of listings of an entry: 168 KB, so that several fit a message to a follower.
	MaxListings = 4096
	// maxSuppressBy bounds who has asked, in bytes. It is kept for each listing.
	maxSuppressBy = 128
)

// SuppressOp is what a Suppress entry does with its listings.
type SuppressOp uint8

// The operations. The numeric values are part of the entry and never change.
const (
	SuppressAdd    SuppressOp = 1
	SuppressRemove SuppressOp = 2
)

// SuppressEntry changes the list of suppressed readers (level 3).
type SuppressEntry struct {
	Now int64 // the leader's wall clock, Unix milliseconds
	Op  SuppressOp
	// Salt is the one that the listings were made with. The first entry that adds sets it, for good.
	Salt event.Salt
	By   string // who has asked; cut at 128 bytes
	// Listings are at most MaxListings. One that is there already, or is not there, changes nothing.
	Listings []event.Listing
}

// SuppressRefusal says why a Suppress entry has changed nothing.
type SuppressRefusal uint8

// The refusals.
const (
	SuppressTaken   SuppressRefusal = iota // it was not refused
	SuppressByLevel                        // the shard is below level.Guarded
	SuppressBySalt                         // the list has another salt, or, for a removal, none
	SuppressByLimit                        // there would be more than MaxSuppressed listings
)

// SuppressResult is what Apply returns for a Suppress entry.
type SuppressResult struct {
	Refused SuppressRefusal
	Changed int // listings that were added or removed
	// List is what is known of the list afterwards, and Salt its salt.
	List SuppressInfo
	Salt event.Salt
}

// SuppressInfo tells lists apart and shows nothing of them: two shards have the same list if all but Number are the
// same.
type SuppressInfo struct {
	Number uint64      // of the list; it rises by one with each entry that changes it
	SaltID event.KeyID // zero if there is no salt
	Count  int64
	Sum    uint64 // of the first 8 bytes of all hashes
	Bytes  int64  // what the list takes in memory, an estimate
}

// storedSuppress is what meta has of the list.
type storedSuppress struct {
	Number uint64
	Salt   event.Salt
	Count  int64
	Sum    uint64
}

// Listed is a listing and how it came on the list.
type Listed struct {
	event.Listing
	At int64 // Unix milliseconds
	By string
}

// EncodeSuppress encodes the entry. It panics if there are more than MaxListings.
func EncodeSuppress(e *SuppressEntry) []byte {
	if len(e.Listings) > MaxListings {
		panic(fmt.Sprintf("state: an entry of %d listings", len(e.Listings)))
	}
	by := event.CutText(strings.ToValidUTF8(e.By, "?"), maxSuppressBy)
	b := make([]byte, 0, 64+len(by)+event.ListingBytes*len(e.Listings))
	b = binary.AppendVarint(append(b, kindSuppress, level.Entry.At(level.Guarded)), e.Now)
	b = append(append(b, byte(e.Op)), e.Salt[:]...)
	b = binary.AppendUvarint(appendText(b, by), uint64(len(e.Listings)))
	for i := range e.Listings {
		b = e.Listings[i].Append(b)
	}
	return b
}

func (d *decoder) suppress() (e SuppressEntry) {
	e.Now, e.Op = d.varint(), SuppressOp(d.byte())
	copy(e.Salt[:], d.bytes(len(e.Salt)))
	e.By = string(d.text())
	if d.err == nil && (e.Op != SuppressAdd && e.Op != SuppressRemove || e.Salt == (event.Salt{}) ||
		len(e.By) > maxSuppressBy || !utf8.ValidString(e.By)) {
		d.fail("change of the list of suppressed readers")
	}
	n := d.length(event.ListingBytes)
	if n > MaxListings {
		d.fail("number of listings")
	}
	for range n {
		p := d.bytes(event.ListingBytes)
		if p == nil {
			return e
		}
		l, ok := event.DecodeListing(p)
		if !ok {
			d.fail("kind of a listing")
			return e
		}
		e.Listings = append(e.Listings, l)
	}
	return e
}

func suppressInfo(l *event.Suppression) SuppressInfo {
	return SuppressInfo{Number: l.Number, SaltID: l.SaltID, Count: int64(l.Len()), Sum: l.Sum, Bytes: l.Bytes()}
}

func appendListingKey(dst []byte, k event.ListingKey) []byte {
	dst = binary.BigEndian.AppendUint64(append(dst, prefixSuppressed), k.Fast)
	return binary.BigEndian.AppendUint64(dst, k.Hash)
}

func decodeListingKey(k []byte) (event.ListingKey, error) {
	if len(k) != 17 {
		return event.ListingKey{}, fmt.Errorf("%w: key of a listing %x", ErrCorrupt, k)
	}
	return event.ListingKey{Fast: binary.BigEndian.Uint64(k[1:]), Hash: binary.BigEndian.Uint64(k[9:])}, nil
}

// encode appends the stored value: kind, the hash but for what its key has of it, when and by whom.
func (l *Listed) encode(dst []byte) []byte {
	dst = append(append(dst, byte(l.Kind)), l.Hash[8:]...)
	return appendText(binary.AppendVarint(dst, l.At), l.By)
}

func decodeListed(k, v []byte) (l Listed, err error) {
	key, err := decodeListingKey(k)
	if err != nil {
		return l, err
	}
	d := decoder{b: v}
	l.Kind, l.Fast = event.SuppressKind(d.byte()), key.Fast
	binary.BigEndian.PutUint64(l.Hash[:], key.Hash)
	copy(l.Hash[8:], d.bytes(len(l.Hash)-8))
	l.At, l.By = d.varint(), string(d.text())
	if d.err == nil && (!l.Kind.Valid() || len(l.By) > maxSuppressBy) {
		d.fail("listing")
	}
	if err := d.end(); err != nil {
		return l, fmt.Errorf("listing %x: %w", k, err)
	}
	return l, nil
}
