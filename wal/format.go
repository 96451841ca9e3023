package wal

import (
	"fmt"
	"hash/crc32"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// This file names everything that a log's folder holds, with its one version: doc.go draws the layout. Nothing else in
// the package spells a magic, a version, a kind of record or a file name. The numbers never change, because logs on
// disk have them. A new kind of record, or another payload of a known one, needs a new formatVersion: a program that
// does not know it must refuse the folder instead of calling it damaged.

// formatVersion is the version in a segment's header, which covers all that the segment holds. A log has segments of
// one version only. 1, the first: header of 40 bytes, records of the kinds below.
const formatVersion = 1

// checkVersion refuses a segment that was written by a newer version of this program. whole says that the segment's
// header fits its checksum, whose place is the same in every version: otherwise the version is damaged, not new.
func checkVersion(version uint32, whole bool) error {
	if version > formatVersion && whole {
		return fmt.Errorf("%w %d, this program knows %d", ErrVersion, version, formatVersion)
	}
	return nil
}

// castagnoli is the polynomial of every checksum: CRC32C, since processors compute it.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// The names in the folder.
const (
	segmentSuffix = ".wal" // of a segment, behind its number of 16 hexadecimal digits
	tmpSuffix     = ".tmp" // behind the name of a segment whose head is being written
)

// LockName is the file in the folder that an open log holds locked.
const LockName = "LOCK"

// category is what Pebble's file system counts the log's writes as.
const category = vfs.DiskWriteCategory("deckle-wal")

// magic begins every segment.
var magic = [8]byte{'D', 'E', 'C', 'K', 'L', 'W', 'A', 'L'}

const (
	segmentHeader = 40 // bytes of a segment's header
	recordHeader  = 24 // bytes of the frame before a payload
	entryFixed    = 32 // bytes of an entry's payload before its data
)

// marker is in every record's header. It makes the search for a record behind a damaged place cheap; the CRC decides.
const marker uint16 = 0xD3C7

// kind says what a record holds.
type kind uint8

const (
	kindEntry  kind = 1 // a Raft entry; it makes the group's entries from its index on void
	kindDelete kind = 2 // entries min..max of the group go
	kindSet    kind = 3 // one stable-store key
	kindVote   kind = 4 // CurrentTerm, LastVoteTerm and LastVoteCand together
	kindDrop   kind = 5 // the group is gone
	kindState  kind = 6 // head of a segment: one group as of there
	kindSeal   kind = 7 // end of a full segment: the next one exists
	kindMark   kind = 8 // end of an orderly Close: everything before is synced
)

// The flags of an entry: which of its fields are set.
const (
	flagTime = 1 << iota
	flagData
	flagExtensions
)

// The flags of a vote: which of its values are set.
const (
	flagTerm = 1 << iota
	flagVoteTerm
	flagCandidate
)

// The library's stable-store keys that share a record of kindVote.
const (
	keyTerm      = "CurrentTerm"
	keyVoteTerm  = "LastVoteTerm"
	keyCandidate = "LastVoteCand"
)
