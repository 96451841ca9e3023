package deltalog

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"deckle/sinks"
	"deckle/sinks/delta/store"
)

// Submission is one change of a group.
type Submission struct {
	Change *Change
	// Withdrawn, if it is set, is closed once nobody waits for the change any more. It is not committed then, unless
	// the put of its commit has begun.
	Withdrawn <-chan struct{}
}

// SubmitAll submits changes so that they are committed together, as far as the log takes them, and returns what has
// become of each, in their order. If ctx ends first, those without an answer are withdrawn, and answered OutcomeNo.
func (l *Log) SubmitAll(ctx context.Context, group []Submission) []Answer {
	changes := make([]*pending, len(group))
	for i, s := range group {
		changes[i] = newPending(s.Change, s.Withdrawn)
	}
	answers := make([]Answer, len(group))
	if err := l.committer.submit(changes...); err != nil {
		for i := range answers {
			answers[i] = answerOf(landing{err: err})
		}
		return answers
	}
	for i, p := range changes {
		select {
		case at := <-p.done:
			answers[i] = answerOf(at)
		case <-ctx.Done():
			l.committer.withdraw(p)
			p.finish(0, ctx.Err())
			answers[i] = answerOf(<-p.done)
		}
	}
	return answers
}

func answerOf(at landing) Answer {
	_, split := errors.AsType[*SplitError](at.err)
	switch {
	case at.err == nil && at.version > 0:
		return Answer{Outcome: OutcomeCommitted, Version: at.version}
	case at.err == nil:
		return Answer{Outcome: OutcomeDone}
	case split:
		return Answer{Outcome: OutcomeSplit, Error: at.err.Error()}
	case errors.Is(at.err, ErrRebuild):
		return Answer{Outcome: OutcomeRebuild, Error: at.err.Error()}
	}
	return Answer{Outcome: OutcomeNo, Error: at.err.Error()}
}

// Landed reads the log up to its newest version, and reports whether the commit of a version is that of the change, as
// somebody else says who has made it: it has the txn of each part, if the change is Last, and each add and remove. A
// commit that has some of them only is a *sinks.StopError: rows are lost or doubled, and nothing may be forgotten that
// they could be made from. False says that the commit is another one, or none.
func (l *Log) Landed(ctx context.Context, version int64, change *Change) (bool, error) {
	if err := l.Refresh(ctx); err != nil {
		return false, err
	}
	newest := int64(0)
	l.View(func(s *Snapshot) { newest = s.Version })
	if version <= 0 || version > newest {
		return false, nil
	}
	c, err := l.readCommit(ctx, version)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	have, want, missing := change.in(c)
	switch have {
	case 0:
		return false, nil
	case want:
		return true, nil
	}
	return false, &sinks.StopError{
		Err: fmt.Errorf("delta: table %s: commit %d has a part of a change only, and not %s", l.name(), version,
			missing),
		Hint: "the nodes that write this table are at fault: stop them, and look at this commit and at the files " +
			"that it adds before anything else is written",
	}
}

// in counts what a commit has of a change, and what it should have. missing is the first thing that it does not have.
func (c *Change) in(made *commit) (have, want int, missing string) {
	count := func(there bool, format string, args ...any) {
		want++
		if there {
			have++
		} else if missing == "" {
			missing = fmt.Sprintf(format, args...)
		}
	}
	txns := map[string]int64{}
	for _, t := range made.txns {
		txns[t.AppID] = t.Version
	}
	removes, adds := map[string]string{}, map[string]*Add{}
	for i := range made.removes {
		removes[made.removes[i].Path] = made.removes[i].Vector.ID()
	}
	for i := range made.adds {
		adds[made.adds[i].Path] = &made.adds[i]
	}
	if c.Last {
		for _, p := range c.Parts {
			count(txns[p.AppID] == p.Version, "the txn of %s", p.AppID)
			for _, note := range p.Notes {
				count(txns[note] == p.Version, "the note %s", note)
			}
		}
	}
	for _, path := range c.Removes {
		vector, there := removes[path]
		count(there && vector == c.Vectors[path], "the remove of %s", path)
	}
	for i := range c.Adds {
		a := &c.Adds[i]
		count(a.same(adds[a.Path]), "the add of %s", a.Path)
	}
	return have, want, missing
}

// same reports whether two adds say the same of their file.
func (a *Add) same(b *Add) bool {
	return b != nil && a.Path == b.Path && a.Size == b.Size && a.ModificationTime == b.ModificationTime &&
		a.DataChange == b.DataChange && a.Stats == b.Stats && maps.Equal(a.PartitionValues, b.PartitionValues) &&
		maps.Equal(a.Tags, b.Tags) && a.Vector.ID() == b.Vector.ID()
}

// ForeignSince reports whether one of the newest commits, so many, is not one of Deckle's, as far as they have been
// read: of those that a checkpoint holds nobody knows.
func (l *Log) ForeignSince(commits int64) (there bool) {
	l.View(func(s *Snapshot) { there = s.foreign > 0 && s.Version-s.foreign < commits })
	return there
}
