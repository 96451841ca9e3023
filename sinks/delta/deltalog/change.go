package deltalog

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrRebuild says that the table has changed since the change was made: a part is neither done nor where the change was
// made on, a file to be removed is gone, or one that may hold the rows to be inserted is new. The caller reads the
// table again and makes a new change.
var ErrRebuild = errors.New("delta: the change must be made again on the newer version")

// SplitError says that some parts of a change are in the log, and the others are where the change was made on: nothing
// of it can be committed any more, as the files of a change are those of all its parts. The caller makes a change of
// the others.
type SplitError struct {
	Done []string // application ids of the parts that are in the log
}

func (e *SplitError) Error() string {
	return "delta: a part of the change is in the log: " + strings.Join(e.Done, ", ")
}

// Part is the plan of one shard in a Change: it moves the txn of AppID from Base to Version.
type Part struct {
	AppID string
	// Base is the txn on which the change was made, 0 for none. Version is what it becomes. If the log has at least
	// Version, nothing is to be done.
	Base, Version int64
	// Notes are application ids of further txn actions, with the same version: the log keeps them for ever, and every
	// other reader passes over them. Only a change that is Last has any.
	Notes []string `json:",omitempty"`
}

// Part is the part of a change that is made on this snapshot, and moves the txn of an application id to a version.
func (s *Snapshot) Part(appID string, version int64) Part {
	return Part{AppID: appID, Base: s.txn(appID), Version: version}
}

// Place says where a change looked for rows and found none: in the files of a partition that may hold rows of the shard
// that were first visible in one of the epochs.
type Place struct {
	Partition string // as Partition names it
	Shard     uint32
	Epochs    []uint64
}

// may reports whether the file may hold a row of the place.
func (p *Place) may(f *File) bool {
	return p.Partition == f.Partition &&
		slices.ContainsFunc(p.Epochs, func(epoch uint64) bool { return f.May(p.Shard, epoch) })
}

// Change is what one caller of Submit wants in the log, all or nothing.
type Change struct {
	// Parts name the change, each with an application id of its own.
	Parts []Part
	// Last says that the commit moves the txns of the parts. Other changes with the same parts follow one without it.
	Last bool
	// Rearrange says that the rows of Adds are those of Removes: the commit changes no data (dataChange is false in its
	// actions), so a table that takes appends only takes it, too. Such a change has no parts.
	Rearrange bool `json:",omitempty"`
	Adds      []Add
	Removes   []string // paths
	// Vectors are the ids of the deletion vectors with which files of Removes were read, by path: the rows that they
	// hide do not stand in Adds. If one of the files has another vector by now, or one where it had none, the change
	// must be made again, or rows that somebody has deleted meanwhile would come back. See Remove.
	Vectors map[string]string `json:",omitempty"`
	// Changes are files of the rows that a change which removes files has replaced and added, if the table has a change
	// data feed (Log.ChangeFeed).
	Changes []Cdc `json:",omitempty"`
	// Guard are the places of the rows that the change inserts: it must be made again if a file was added after version
	// ReadVersion that may hold one of them.
	Guard       []Place
	ReadVersion int64 // the version on which the change was made: its bases, files and guard are as of it
	// Rules is the Text of the table's rules by which the rows of Adds were judged, unless they stood there before. If
	// the table has others by now, the change must be made again.
	Rules     string `json:",omitempty"`
	Rows      int64  // for the commit's metrics
	Deleted   int64  `json:"-"` // rows that others have deleted and that were to be replaced, for commitInfo
	Operation string // WRITE, MERGE, OPTIMIZE
}

// Remove adds a file to Removes, as it was read.
func (c *Change) Remove(f *File) {
	c.Removes = append(c.Removes, f.Path)
	if f.Vector != nil {
		if c.Vectors == nil {
			c.Vectors = map[string]string{}
		}
		c.Vectors[f.Path] = f.Vector.ID()
	}
}

var errParts = errors.New("delta: a change must have parts, or rearrange rows")

// check judges a change against the current snapshot:
//
//	of all parts                       the change
//	a txn is less than it was          *sinks.StopError
//	txn ≥ Version                      done
//	txn = Base                         ready, if its files and places are as they were
//	some done, the others at Base      *SplitError
//	one with another txn               ErrRebuild
func (c *Change) check(table string, s *Snapshot) (done bool, err error) {
	if len(c.Parts) == 0 && !c.Rearrange || c.Rearrange && (len(c.Parts) > 0 || c.Last) {
		return false, errParts
	}
	if s.Version < c.ReadVersion {
		return false, fmt.Errorf("%w: made on version %d, the log has %d", ErrRebuild, c.ReadVersion, s.Version)
	}
	var split SplitError
	for i := range c.Parts {
		p := &c.Parts[i]
		if err := s.WentBack(table, p.AppID); err != nil {
			return false, err
		}
		switch v := s.txn(p.AppID); {
		case v >= p.Version:
			split.Done = append(split.Done, p.AppID)
		case v != p.Base:
			return false, fmt.Errorf("%w: %s is at %d, the change was made on %d", ErrRebuild, p.AppID, v, p.Base)
		}
	}
	switch len(split.Done) {
	case 0:
	case len(c.Parts):
		return true, nil
	default:
		// gofail: var bugSharedSplit struct{}
		// return false, nil
		return false, &split
	}
	for _, path := range c.Removes {
		// gofail: var bugRemovesUnchecked struct{}
		// continue
		f := s.File(path)
		if f == nil {
			return false, fmt.Errorf("%w: %s is gone", ErrRebuild, path)
		}
		// gofail: var bugVectorUnchecked struct{}
		// continue
		if f.Vector.ID() != c.Vectors[path] {
			return false, fmt.Errorf("%w: other rows of %s are deleted", ErrRebuild, path)
		}
	}
	if err := c.checkFeed(s); err != nil {
		return false, err
	}
	if err := c.checkVectors(s); err != nil {
		return false, err
	}
	if len(c.Adds) > 0 && !c.Rearrange && c.Rules != s.rules.text {
		return false, fmt.Errorf("%w: it has other constraints", ErrRebuild)
	}
	if len(c.Guard) == 0 || s.Version == c.ReadVersion {
		return false, nil
	}
	for f := range s.addedAfter(c.ReadVersion) {
		if c.guards(f) {
			return false, fmt.Errorf("%w: %s is new", ErrRebuild, f.Path)
		}
	}
	return false, nil
}

// checkFeed gives ErrRebuild if a change replaces rows with a feed in mind that was switched on or off meanwhile.
func (c *Change) checkFeed(s *Snapshot) error {
	if on := s.properties.changeData; len(c.Removes) > 0 && !c.Rearrange && on != (len(c.Changes) > 0) {
		return fmt.Errorf("%w: its change data feed is on: %t", ErrRebuild, on)
	}
	return nil
}

// checkVectors gives ErrRebuild if a change gives a file a deletion vector, and the table is not to have any by now:
// under a protocol that does not know them, in some readers hidden rows come back.
func (c *Change) checkVectors(s *Snapshot) error {
	// gofail: var bugVectorsUnwanted struct{}
	// return nil
	if !s.Vectors() && slices.ContainsFunc(c.Adds, func(a Add) bool { return a.Vector != nil }) {
		return fmt.Errorf("%w: its files are not to have deletion vectors any more", ErrRebuild)
	}
	return nil
}

// revises reports whether the change puts rows where it has looked for them.
func (c *Change) revises() bool { return !c.Rearrange && (len(c.Removes) > 0 || len(c.Guard) > 0) }

// guards reports whether a file may hold a row that the change inserts.
func (c *Change) guards(f *File) bool {
	return slices.ContainsFunc(c.Guard, func(p Place) bool { return p.may(f) })
}

// meets gives ErrRebuild if the change cannot be in one commit with others that remove and add these files.
func (c *Change) meets(removed map[string]bool, added []*File) error {
	for _, path := range c.Removes {
		if removed[path] {
			return fmt.Errorf("%w: another change of this commit removes %s", ErrRebuild, path)
		}
	}
	for _, f := range added {
		if c.guards(f) {
			return fmt.Errorf("%w: another change of this commit adds %s", ErrRebuild, f.Path)
		}
	}
	return nil
}
