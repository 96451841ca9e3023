package deltalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// OfferFormat is the format of an Offer. 1, the first. A field that is not known refuses the whole offer, as it might
// be a condition: so a field more is a new format, unless it is left out where it says nothing. Then who does not know
// it takes the offers without it, and the others are committed by their own nodes.
const OfferFormat = 1

// MaxOffer is the most bytes that an encoded offer may have: what does not fit into a frame between nodes, which is
// 1 MiB with its envelope, is committed by its own node.
const MaxOffer = 1<<20 - 4<<10

// The lanes of offers. Plans of a lane meet in one round, and are committed together.
const (
	LaneEvents   = "events"
	LaneSessions = "sessions"
)

// lanes has the table of a lane, and the last part of its application ids.
var lanes = map[string]struct{ table, kind string }{
	LaneEvents:   {"events", "events"},
	LaneSessions: {"sessions", "sessions"},
}

// Offer is what a node has staged for one table in one turn, and wants to have committed by another node: with all of
// its parts, or with none. An offer without parts says that nothing will come from its node in this turn.
type Offer struct {
	Format int    // OfferFormat
	Table  string // name of the table's folder
	Lane   string
	Turn   uint64 // sinks.Turn.Number
	// More says that the node will probably offer something else for the turn: the committer waits for it.
	More bool `json:",omitempty"`
	Change
}

// Outcome is what has become of an offer.
type Outcome string

// The outcomes of an offer. Any other text stands for OutcomeNo.
const (
	OutcomeCommitted Outcome = "committed" // by this commit, Answer.Version
	OutcomeDone      Outcome = "done"      // all parts were in the log before
	OutcomeSplit     Outcome = "split"     // some of the parts were: the node makes a change of the others
	OutcomeRebuild   Outcome = "rebuild"   // the table has changed: the node makes the change again (ErrRebuild)
	OutcomeNo        Outcome = "no"        // refused, or not known: the node commits by itself
)

// Answer is what a committer says of an offer. Nothing is acknowledged by it: the node looks at the log itself.
type Answer struct {
	Outcome Outcome
	Version int64  `json:",omitempty"` // of the commit, for OutcomeCommitted
	Error   string `json:",omitempty"` // why, for people
}

// EncodeOffer renders an offer. It fails if that is larger than MaxOffer.
func EncodeOffer(o *Offer) ([]byte, error) {
	// Whoever puts it into a message with encoding/json does not change it.
	b, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("delta: encode offer: %w", err)
	}
	if len(b) > MaxOffer {
		return nil, fmt.Errorf("delta: an offer of %d bytes, more than %d", len(b), MaxOffer)
	}
	return b, nil
}

// DecodeOffer is the inverse of EncodeOffer. It refuses every other text, also one that says the same: so a part of an
// offer that is there twice, or under a name in other letters, is not passed over.
func DecodeOffer(data []byte) (*Offer, error) {
	if len(data) > MaxOffer {
		return nil, fmt.Errorf("delta: an offer of %d bytes, more than %d", len(data), MaxOffer)
	}
	var head struct{ Format int }
	if json.Unmarshal(data, &head) == nil && head.Format != OfferFormat {
		return nil, fmt.Errorf("delta: offer format %d, this program knows %d", head.Format, OfferFormat)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	o := &Offer{}
	if err := dec.Decode(o); err != nil {
		return nil, fmt.Errorf("delta: offer: %w", err)
	}
	if again, err := EncodeOffer(o); err != nil || !bytes.Equal(again, data) {
		return nil, errors.New("delta: an offer that this format does not write")
	}
	return o, nil
}

// OfferRules is what a committer knows of the table and of the sender of an offer.
type OfferRules struct {
	ClusterID, Pipeline string
	PartitionColumns    []string // of the offer's table, as in Creation
	Shards              uint32   // of the cluster
	// Leads says whether the sender leads a shard, as this node's own replica has it.
	Leads func(shard uint32) bool
}

// Check refuses an offer that is not what the sinks of a node make, or not the sender's to make. A member can write to
// the store anyway: this keeps a fault of one node from becoming a commit of another.
func (o *Offer) Check(r *OfferRules) error {
	if err := o.check(r); err != nil {
		return fmt.Errorf("delta: offer for %q, lane %q, turn %d: %w", o.Table, o.Lane, o.Turn, err)
	}
	return nil
}

func (o *Offer) check(r *OfferRules) error {
	lane, ok := lanes[o.Lane]
	switch {
	case o.Format != OfferFormat:
		return fmt.Errorf("format %d", o.Format)
	case o.Rearrange:
		return errors.New("it rearranges rows")
	case !ok || o.Table != lane.table:
		return errors.New("no such lane of this table")
	case len(o.Parts) == 0:
		if o.More || o.Last || len(o.Adds)+len(o.Removes)+len(o.Vectors)+len(o.Changes)+len(o.Guard) > 0 ||
			o.ReadVersion|o.Rows != 0 || o.Operation+o.Rules != "" {
			return errors.New("no parts, and yet a change")
		}
		return nil
	case o.ReadVersion < 0 || o.Rows < 0:
		return errors.New("a negative number")
	case o.Operation != "" && o.Operation != "WRITE":
		return fmt.Errorf("operation %q", o.Operation)
	case !o.Last || len(o.Adds) == 0 || len(o.Removes)+len(o.Vectors)+len(o.Guard)+len(o.Changes) > 0:
		return errors.New("it does more or less than to add files and move its txns")
	}
	shards, err := o.checkParts(r, lane.kind)
	if err != nil {
		return err
	}
	return o.checkFiles(r, shards)
}

// checkParts returns the shards of the parts.
func (o *Offer) checkParts(r *OfferRules, kind string) (map[uint32]bool, error) {
	shards := map[uint32]bool{}
	prefix := r.ClusterID + "/" + r.Pipeline + "/"
	for i := range o.Parts {
		p := &o.Parts[i]
		number, _, _ := strings.Cut(strings.TrimPrefix(p.AppID, prefix), "/")
		n, err := strconv.ParseUint(number, 10, 32)
		switch shard := uint32(n); {
		case err != nil || p.AppID != fmt.Sprintf("%s%d/%s", prefix, shard, kind):
			return nil, fmt.Errorf("application id %q", p.AppID)
		case shard >= r.Shards:
			return nil, fmt.Errorf("shard %d of %d", shard, r.Shards)
		case shards[shard]:
			return nil, fmt.Errorf("shard %d twice", shard)
		case !r.Leads(shard):
			return nil, fmt.Errorf("its sender does not lead shard %d", shard)
		case p.Base < 0 || p.Base >= p.Version:
			return nil, fmt.Errorf("shard %d from %d to %d", shard, p.Base, p.Version)
		default:
			shards[shard] = true
		}
		if len(p.Notes) > 0 && o.Lane != LaneEvents {
			return nil, errors.New("notes")
		}
		seen := map[string]bool{}
		for _, note := range p.Notes {
			if seen[note] || !isGiven(p.AppID, note) {
				return nil, fmt.Errorf("note %q", note)
			}
			seen[note] = true
		}
	}
	return shards, nil
}

// isGiven reports whether a note is that of a range of offsets that an operator has given up: of a partition, from an
// offset to another (package delta, givenID).
func isGiven(appID, note string) bool {
	rest, ok := strings.CutPrefix(note, appID+"/given/")
	partition, offsets, _ := strings.Cut(rest, "/")
	from, to, _ := strings.Cut(offsets, "-")
	p, err1 := strconv.ParseUint(partition, 10, 31)
	f, err2 := strconv.ParseUint(from, 10, 63)
	t, err3 := strconv.ParseUint(to, 10, 63)
	return ok && err1 == nil && err2 == nil && err3 == nil && f < t && rest == fmt.Sprintf("%d/%d-%d", p, f, t)
}

func (o *Offer) checkFiles(r *OfferRules, shards map[uint32]bool) error {
	seen := map[string]bool{}
	lies := func(values Values, in string) bool {
		return len(values) == len(r.PartitionColumns) &&
			Folder(r.PartitionColumns, partitionIn(values, r.PartitionColumns)) == in
	}
	folder := func(path string) (in string, err error) {
		if seen[path] {
			return "", fmt.Errorf("path %q twice", path)
		}
		seen[path] = true
		in, ok := folderOf(path, r.PartitionColumns)
		if !ok {
			return "", fmt.Errorf("path %q", path)
		}
		return in, nil
	}
	for i := range o.Adds {
		a := &o.Adds[i]
		under, err := folder(a.Path)
		if err != nil {
			return err
		}
		e := a.entry()
		origins := (&File{Origin: e.origin, Parts: e.parts}).Origins()
		switch {
		case !lies(a.PartitionValues, under):
			return fmt.Errorf("%s has the partition values %v", a.Path, a.PartitionValues)
		case !a.DataChange || a.Size <= 0:
			return fmt.Errorf("%s: no data that changes", a.Path)
		case a.Vector != nil:
			return fmt.Errorf("%s has a deletion vector: rows of a new file are hidden", a.Path)
		case len(origins) == 0, slices.ContainsFunc(origins, func(g Origin) bool { return !shards[g.Shard] }):
			return fmt.Errorf("%s has the tags %v", a.Path, a.Tags)
		}
	}
	return nil
}

// folderOf returns the folder of a path, which is that of a partition, and in it a name of "part-" and letters, digits,
// "." and "-". The last partition column is a date.
func folderOf(path string, columns []string) (folder string, ok bool) {
	at := strings.LastIndexByte(path, '/')
	if at < 0 {
		return "", false
	}
	folder = path[:at]
	name, part := strings.CutPrefix(path[at+1:], "part-")
	elements := strings.Split(folder, "/")
	if !part || name == "" || len(elements) != len(columns) {
		return "", false
	}
	for i, e := range elements {
		value, ok := strings.CutPrefix(e, columns[i]+"=")
		odd := func(c rune) bool { return c > 127 || !plainByte(byte(c)) }
		if !ok || value == "" || strings.ContainsFunc(value, odd) {
			return "", false
		}
		if _, err := time.Parse(time.DateOnly, value); i == len(columns)-1 && err != nil {
			return "", false
		}
	}
	for _, c := range []byte(name) {
		if !plainByte(c) || c == '_' {
			return "", false
		}
	}
	return folder, true
}
