package history

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"deckle/sinks/delta/deltalog"
	"deckle/sinks/delta/store"
)

// Kinds of findings.
const (
	FileMissing          = "file-missing"          // a live file is not in the store
	FileSize             = "file-size"             // a live file has another size
	FilePath             = "file-path"             // a live file has a name that cannot be looked at here
	FileDamaged          = "file-damaged"          // a live file cannot be opened (deep)
	FileCounts           = "file-counts"           // its statistics count other rows or nulls than it has (deep)
	CommitMissing        = "commit-missing"        // a version is gone that readers need
	CommitDamaged        = "commit-damaged"        // it cannot be understood
	CheckpointDamaged    = "checkpoint-damaged"    // it cannot be read
	CheckpointDiffers    = "checkpoint-differs"    // it says something else than the commits before it
	CheckpointIncomplete = "checkpoint-incomplete" // parts of it are missing
	CheckpointOther      = "checkpoint-other"      // it is of a kind that is not read here
	HintNowhere          = "hint-nowhere"          // _last_checkpoint names what is not there
	HintDiffers          = "hint-differs"          // it counts wrongly, or cannot be understood
	TxnBack              = "txn-back"              // a txn of an application id has a lower version than before
	TimestampBack        = "timestamp-back"        // an in-commit timestamp is missing or not above the one before
	RemoveUnknown        = "remove-unknown"        // a commit removes a file that was not live
	Unreadable           = "unreadable"            // the newest version cannot be read exactly
)

// warnings are the kinds that make no reader's answer wrong.
var warnings = []string{FilePath, CheckpointIncomplete, CheckpointOther, HintDiffers, RemoveUnknown}

// Finding is one thing that does not fit.
type Finding struct {
	Kind    string `json:"kind"`
	Warning bool   `json:"warning"` // no reader's answer is wrong because of it
	Key     string `json:"key"`     // the object
	Version int64  `json:"version"` // at which it shows
	Text    string `json:"text"`
}

// Loose is an object that no live file is.
type Loose struct {
	Key     string    `json:"key"`
	Bytes   int64     `json:"bytes"`
	Written time.Time `json:"written"` // by the store's clock
	// Removed says that the log has a tombstone of it. Otherwise nothing in the log names it: it was staged for a
	// commit, which may still come, or its tombstone has expired.
	Removed bool `json:"removed"`
}

// Report is the result of Check.
type Report struct {
	Table       string    `json:"table"`
	Oldest      int64     `json:"oldest_version"` // from which replay began
	Version     int64     `json:"version"`
	Commits     int       `json:"commits"`     // replayed
	Checkpoints int       `json:"checkpoints"` // compared with the replay or begun from
	Files       int       `json:"files"`       // live
	Bytes       int64     `json:"bytes"`
	Opened      int       `json:"files_opened"` // by a deep check
	Findings    []Finding `json:"findings"`
	Loose       []Loose   `json:"loose"` // ascending by key
}

// Errors is the number of findings that are no warnings.
func (r *Report) Errors() (n int) {
	for i := range r.Findings {
		if !r.Findings[i].Warning {
			n++
		}
	}
	return n
}

// CheckOptions say how far Check looks.
type CheckOptions struct {
	Deep bool // open every live file and compare its counts with the statistics
	// Progress, if set, is called before each step with what is done.
	Progress func(what string)
}

type checker struct {
	t       *Table
	opts    CheckOptions
	r       *Report
	state   *State
	last    int64              // the newest in-commit timestamp
	actions map[int64][2]int64 // rows and adds of the checkpoints that were read, by version
}

// errMoved says that the log was cleaned while it was read.
var errMoved = errors.New("history: the log was cleaned meanwhile")

// Check compares commits, checkpoints, the hint and the objects of a table with each other. An error says that it could
// not be done; what does not fit is in the report.
func (t *Table) Check(ctx context.Context, opts CheckOptions) (*Report, error) {
	if opts.Progress == nil {
		opts.Progress = func(string) {}
	}
	for try := 0; ; try++ {
		c := &checker{t: t, opts: opts, r: &Report{Table: t.Name(), Findings: []Finding{}, Loose: []Loose{}},
			actions: map[int64][2]int64{}}
		err := c.run(ctx)
		if errors.Is(err, errMoved) && try < 3 {
			continue
		}
		if err != nil {
			return nil, err
		}
		return c.r, nil
	}
}

func (c *checker) find(kind, key string, version int64, format string, args ...any) {
	c.r.Findings = append(c.r.Findings, Finding{kind, slices.Contains(warnings, kind), key, version,
		fmt.Sprintf(format, args...)})
}

func (c *checker) run(ctx context.Context) error {
	c.opts.Progress("reading the log of " + c.t.Name())
	if err := c.log(ctx); err != nil {
		return err
	}
	if err := c.hint(ctx); err != nil {
		return err
	}
	if c.state == nil {
		c.find(Unreadable, c.t.root+logDir, c.t.Newest(), "no version can be replayed")
		return nil
	}
	if err := c.t.checkReadable(c.state); err != nil {
		c.find(Unreadable, c.t.root+logDir, c.state.Version, "%v", err)
	}
	c.opts.Progress("listing the objects of " + c.t.Name())
	return c.objects(ctx)
}

// log replays everything that is there, and compares each checkpoint with the replay.
func (c *checker) log(ctx context.Context) error {
	t := c.t
	for _, key := range t.foreign {
		v, _, _ := cutVersion(strings.TrimPrefix(key, t.root+logDir))
		c.find(CheckpointOther, key, v, "a checkpoint of a kind that is not read here (v2)")
	}
	next := int64(0) // the next version to replay
	var state *State
	if _, ok := t.commits[0]; ok {
		state = newState(Options{sums: true, Stats: c.opts.Deep})
	}
	rest := t.checkpoints
	c.r.Oldest = -1
	begin := func() error { // at the next checkpoint that can be read
		for state == nil && len(rest) > 0 {
			cp := &rest[0]
			rest = rest[1:]
			s, err := c.checkpoint(ctx, cp)
			if err != nil {
				return err
			}
			if s != nil {
				state, next = s, s.Version+1
				if c.r.Oldest < 0 {
					c.r.Oldest = s.Version
				}
			}
		}
		return nil
	}
	if state != nil {
		c.r.Oldest = 0
	}
	if err := begin(); err != nil {
		return err
	}
	for ; state != nil && next <= t.Newest(); next++ {
		m, err := t.Commit(ctx, next)
		switch damage := (*deltalog.CorruptionError)(nil); {
		case err == nil:
			c.apply(state, m)
		case errors.As(err, &damage) && !errors.Is(err, errMissing):
			c.find(CommitDamaged, damage.Key, next, "%v", damage)
			state = nil
		case errors.As(err, &damage) || errors.Is(err, ErrNoVersion):
			if err := t.Refresh(ctx); err != nil {
				return err
			}
			if len(t.versions) > 0 && t.versions[0] > next && len(t.checkpoints) > 0 &&
				t.checkpoints[0].Version > next {
				return errMoved
			}
			c.find(CommitMissing, fmt.Sprintf("%s%s%020d.json", t.root, logDir, next), next,
				"the log has no version %d, but later ones", next)
			state = nil
		default:
			return err
		}
		for len(rest) > 0 && rest[0].Version <= next {
			if state == nil && rest[0].Version == next {
				break // the replay goes on from it
			}
			cp := &rest[0]
			rest = rest[1:]
			s, err := c.checkpoint(ctx, cp)
			if err != nil {
				return err
			}
			if s != nil && state != nil && s.Version == state.Version {
				c.compare(cp, s, state)
			}
		}
		if state == nil {
			if err := begin(); err != nil {
				return err
			}
			next-- // begin has set it to the next one
		}
	}
	c.state = state
	return nil
}

// checkpoint reads a checkpoint; nil if it cannot be read, which is a finding.
func (c *checker) checkpoint(ctx context.Context, cp *Checkpoint) (*State, error) {
	if !cp.whole() {
		c.find(CheckpointIncomplete, cp.Keys[0], cp.Version, "%d of its %d parts are there", len(cp.Keys), cp.Parts)
		return nil, nil
	}
	s, err := c.t.readCheckpoint(ctx, cp, Options{sums: true, Stats: c.opts.Deep})
	var damage *deltalog.CorruptionError
	switch {
	case errors.As(err, &damage):
		c.find(CheckpointDamaged, damage.Key, cp.Version, "%v", damage)
		return nil, nil
	case errors.Is(err, store.ErrNotFound):
		return nil, errMoved
	case err != nil:
		return nil, err
	}
	c.r.Checkpoints++
	c.actions[cp.Version] = [2]int64{s.actions, int64(len(s.Files))}
	return s, nil
}

// apply folds in a commit and looks at what must hold of it.
func (c *checker) apply(s *State, m *Commit) {
	key := fmt.Sprintf("%s%s%020d.json", c.t.root, logDir, m.Version)
	for _, t := range m.Txns {
		if before, ok := s.Txns[t.AppID]; ok && before.Version > t.Version {
			c.find(TxnBack, key, m.Version, "%s goes from %d back to %d: what Deckle has written since may be written "+
				"twice, or was taken away", t.AppID, before.Version, t.Version)
		}
	}
	for i := range m.Removes {
		if s.Files[m.Removes[i].ID()] == nil {
			c.find(RemoveUnknown, key, m.Version, "it removes %s, which was not live", m.Removes[i].Path)
		}
	}
	s.Apply(m)
	c.r.Commits++
	if !deltalog.InCommitTimestamps(s.Protocol, s.Metadata) {
		return
	}
	at := int64(0)
	if m.Info != nil {
		at = m.Info.InCommitTimestamp
	}
	if at <= c.last {
		c.find(TimestampBack, key, m.Version, "its in-commit timestamp is %d, after %d: time travel by a time is not "+
			"exact", at, c.last)
	}
	c.last = max(c.last, at)
}

func (c *checker) hint(ctx context.Context) error {
	key := c.t.root + logDir + hintName
	h, err := c.t.Hint(ctx)
	var damage *deltalog.CorruptionError
	switch {
	case errors.As(err, &damage):
		c.find(HintDiffers, key, -1, "%v", damage)
		return nil
	case err != nil || h == nil:
		return err
	}
	there := func() bool {
		return slices.ContainsFunc(c.t.checkpoints, func(cp Checkpoint) bool {
			return cp.Version == h.Version && cp.Parts == h.Parts && cp.whole()
		}) || slices.ContainsFunc(c.t.foreign, func(key string) bool {
			return strings.Contains(key, fmt.Sprintf("/%020d.checkpoint.", h.Version))
		})
	}
	if !there() {
		if err := c.t.Refresh(ctx); err != nil { // it may be newer than the listing
			return err
		}
	}
	if !there() {
		c.find(HintNowhere, key, h.Version, "it names a checkpoint of version %d, which is not there", h.Version)
		return nil
	}
	if n, ok := c.actions[h.Version]; ok && (h.Size != n[0] || h.Files != 0 && h.Files != n[1]) {
		c.find(HintDiffers, key, h.Version, "it counts %d actions and %d files, the checkpoint has %d and %d", h.Size,
			h.Files, n[0], n[1])
	}
	return nil
}
