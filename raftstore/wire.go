package raftstore

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
)

// Every connection starts with a header; integers are big-endian:
//
//	"DKL1" | kind u8 | group u32 | length u8 | the server id (raft) or node name (control) that the caller means
//
// and is answered with one byte: 0, or a refusal, after which it is closed. A connection of kind raft then belongs to
// that group's transport. A control connection carries one request and one response, each of them: length u32 | JSON.
// One of kind share carries two frames each way; share.go has them.

type header struct {
	kind   connKind
	group  uint32
	target string
}

func (h header) append(b []byte) []byte {
	b = append(b, headerMagic...)
	b = append(b, byte(h.kind))
	b = binary.BigEndian.AppendUint32(b, h.group)
	b = append(b, byte(len(h.target)))
	return append(b, h.target...)
}

func readHeader(r io.Reader) (h header, err error) {
	var b [10]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return h, fmt.Errorf("%w: %w", errHeader, err)
	}
	h = header{kind: connKind(b[4]), group: binary.BigEndian.Uint32(b[5:])}
	if string(b[:4]) != headerMagic || h.kind < kindRaft || h.kind > kindShare ||
		b[9] == 0 || int(b[9]) > maxTarget {
		return h, errHeader
	}
	target := make([]byte, b[9])
	if _, err := io.ReadFull(r, target); err != nil {
		return h, fmt.Errorf("%w: %w", errHeader, err)
	}
	h.target = string(target)
	return h, nil
}

func answerError(a byte) error {
	switch a {
	case answerOK:
		return nil
	case answerNotMe:
		return errNotMe
	case answerNotReady:
		return errNotReady
	}
	return fmt.Errorf("raftstore: refused with code %d", a)
}

// request is a control request; which fields are read depends on Op.
type request struct {
	Op       string
	From     string   // the caller's server id
	Level    uint32   `json:",omitempty"` // of the caller's binary; missing in v0.1.0, which has level 1
	Cluster  string   `json:",omitempty"`
	Nodes    []string `json:",omitempty"` // hello: the configured names in order
	Shards   int      `json:",omitempty"`
	Founders []member `json:",omitempty"` // found
	Shard    uint32   `json:",omitempty"` // join, health
	Rescue   bool     `json:",omitempty"` // health: the caller cannot lead, so a drained node will do
	Inquiry  bool     `json:",omitempty"` // join: only say where I stand
	Applied  uint64   `json:",omitempty"` // join: how far the caller has come
	// Do is JSON that only Options.Do reads.
	Do json.RawMessage `json:",omitempty"` // do
}

// response answers a request.
type response struct {
	Error    string   `json:",omitempty"`
	ServerID string   `json:",omitempty"` // hello
	Level    uint32   `json:",omitempty"` // hello: of the binary; missing in v0.1.0, which has level 1
	MaxLevel uint32   `json:",omitempty"` // hello: up to which level the node lets its groups rise; 0: any
	Manual   bool     `json:",omitempty"` // hello: Options.Manual
	Shares   bool     `json:",omitempty"` // hello: it takes connections of kind share; missing in v0.1.0
	Cluster  string   `json:",omitempty"`
	Phase    phase    `json:",omitempty"`
	Nodes    []string `json:",omitempty"`
	Shards   int      `json:",omitempty"`
	// Fixed are Options.Fixed of the node that answers; missing before v0.2.0, whose values are then not compared.
	Fixed   []Setting `json:",omitempty"` // hello
	Stand   string    `json:",omitempty"` // join
	Leader  string    `json:",omitempty"` // join: a node's name
	Refused string    `json:",omitempty"` // join: why the caller is not let in
	// health
	Term      uint64 `json:",omitempty"`
	LastIndex uint64 `json:",omitempty"` // of the log
	Applied   uint64 `json:",omitempty"`
	StoreMs   int64  `json:",omitempty"` // the slowest recent StoreLogs, or the age of one under way
	// Told is what the node says of itself, or what came of a Do: JSON that only the callers of Ask and Do read.
	Told json.RawMessage `json:",omitempty"`
}

func writeFrame(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("raftstore: encode control frame: %w", err)
	}
	if len(b) > maxFrameBytes {
		return fmt.Errorf("%w: %d bytes", errFrame, len(b))
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
	return err
}

func readFrame(r io.Reader, v any) error {
	var n [4]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return fmt.Errorf("%w: %w", errFrame, err)
	}
	l := binary.BigEndian.Uint32(n[:])
	if l > maxFrameBytes {
		return fmt.Errorf("%w: %d bytes", errFrame, l)
	}
	b := make([]byte, l)
	if _, err := io.ReadFull(r, b); err != nil {
		return fmt.Errorf("%w: %w", errFrame, err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: %w", errFrame, err)
	}
	return nil
}
