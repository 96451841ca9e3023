package raftstore

import (
	"fmt"
	"hash/crc32"

	"deckle/schema/level"
)

// This file names everything that this package stores or sends, with its version. Nothing else in the package spells a
// magic, a version or a file name, and every version that was read is compared here. None of the values below may
// change: data folders and nodes of the former version are read with them. What a shard's log entries hold is the
// business of the state machine, and the log's own files are those of package wal.
//
//	what                            version                        read by         what an unknown version does
//	identity (sealed file)          identityFormat, a field        loadIdentity    ErrForeignFolder: nothing changes
//	marker, staged-<n>/meta         none: sealed JSON              loadMarker      an unknown field is ignored
//	connection header               the last byte of headerMagic   readHeader      the connection is closed
//	control request and response    none: JSON frames              readFrame       an unknown field is ignored
//	share request and answer        none: JSON of the callers      readShared      theirs; v0.1.0 closes it
//	snapshot stream                 level.Stream, a byte           readHead        ErrTooNew; the snapshot is refused
//	Raft's own requests             raft.ProtocolVersionMax        the library     the library's error
//	Raft's snapshot requests        raft.SnapshotVersionMax        sane            the request is refused
//
// A sealed file, a control request and a control response may therefore get a field with "omitempty" without a new
// version, if a node that does not know the field is right to ignore it. Anything else needs a new version, which the
// former program refuses.

// castagnoli is the polynomial of every checksum: CRC32C, since processors compute it.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// identityFormat is the version of the file identity. 1, the first: name, incarnation, cluster, nodes, shards, phase.
const identityFormat = 1

// checkIdentityFormat refuses an identity that was written by another version of this program.
func checkIdentityFormat(format int) error {
	if format != identityFormat {
		return fmt.Errorf("%w: identity format %d, this program knows %d", ErrForeignFolder, format, identityFormat)
	}
	return nil
}

// The names in the data folder.
const (
	identityName    = "identity"
	walDirName      = "wal"
	snapshotDirName = "snapshots"
	shardPrefix     = "shard-"  // and the shard's number: the folder of a state machine
	markerPrefix    = "marker-" // in snapshots/, and the shard's number. Also how a marker's snapshot id begins
	stagedPrefix    = "staged-" // in snapshots/, and the shard's number. Also how a received snapshot's id begins
	stagedFilesName = "files"   // in staged-<n>/: what was received
	stagedMetaName  = "meta"    // in staged-<n>/: its marker
	sendPrefix      = "send-"   // in snapshots/, and the shard's number, "-" and a number of the process
	temporarySuffix = ".tmp"    // of a sealed file that is being written
)

// termKey is the key of the term in the library's stable store: the only one of its keys that is written here, along
// with a group's first configuration.
const termKey = "CurrentTerm"

// phase is how far a node has come in its life, as its identity and its answer to "hello" say; doc.go has the diagram.
type phase string

const (
	phaseNew      phase = "new"      // knows no cluster
	phaseFounding phase = "founding" // has drawn the cluster's id; some groups may have no first configuration yet
	phaseJoining  phase = "joining"  // knows its cluster, asks to take a former incarnation's place
	phaseMember   phase = "member"   // is part of the groups' configurations
	phaseVoid     phase = "void"     // the folder's promises are void; the next Open empties it or refuses it
)

// connKind says what a connection carries.
type connKind uint8

const (
	kindRaft connKind = 1 + iota
	kindControl
	kindShare
)

const (
	// headerMagic begins every connection. Its last byte is the version of the header and of what follows it: 1, the
	// first.
	headerMagic   = "DKL1"
	maxName       = 64               // bytes of a node's name: it is part of every connection's header
	maxTarget     = maxName + 1 + 16 // bytes of a server id: name, "-", incarnation
	maxFrameBytes = 64 << 10         // of a control request or response
	// MaxTold bounds what Options.Tell and Options.Do may return, in bytes: it travels in one control response.
	MaxTold = 48 << 10
)

// The answers to a header, one byte each.
const (
	answerOK       byte = iota
	answerNotMe         // the caller means another server: a former incarnation, or another node
	answerNotReady      // the group does not run here (yet)
)

// The control requests.
const (
	opHello  = "hello"  // who are you?
	opFound  = "found"  // be part of this new cluster
	opJoin   = "join"   // to a group's leader: where do I stand; put me in my former incarnation's place
	opHealth = "health" // could you lead this group?
	opTell   = "tell"   // what do you say of yourself?
	opDo     = "do"     // do what an operator asks
)

// Where a server stands in a group, as the group's leader says, or as GroupStatus.Suffrage says of this node.
const (
	standVoter      = "voter"
	standNonvoter   = "nonvoter"
	standNone       = "none"       // not a member of the configuration; sent only with a refusal
	standPending    = "pending"    // a change is under way
	standSuperseded = "superseded" // not a member, and this id never will be again
	standNotLeader  = "notleader"  // ask Leader
)

const (
	streamMagic = "DKSN" // begins a snapshot stream
	streamEnd   = "DKSE" // ends it
	// streamHead is the length of the head in bytes: magic, version, applied, term, files, checksum. 1, the first
	// version of the stream, ends there; 2 has the level before the checksum. stream.go draws both.
	streamHead  = 4 + 1 + 8 + 8 + 4 + 4
	streamLevel = 4       // bytes of the level
	maxFileName = 1024    // bytes of a file's name in a stream
	maxFiles    = 1 << 20 // files in a stream
)

// The versions of a snapshot stream, which level.Stream gives to the levels.
const (
	streamPlain   byte = 1
	streamLeveled byte = 2
)

// checkStreamVersion refuses a snapshot that was sent by a newer version of this program.
func checkStreamVersion(version byte) error {
	if version == 0 {
		return fmt.Errorf("%w: version 0", ErrStream)
	}
	if err := level.Stream.Check(int(version)); err != nil {
		return fmt.Errorf("%w: %w", ErrTooNew, err)
	}
	return nil
}
