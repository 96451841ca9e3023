package deltalog

import (
	"fmt"
	"slices"
)

// A table has a change data feed while somebody has set its property delta.enableChangeDataFeed. A commit that only
// adds rows is read by its adds; one that replaces rows names files of changes (cdc actions), and then readers of the
// feed take those alone, whatever it adds and removes besides. So all rows of such a commit stand in its files of
// changes, and it has no change in it that only adds rows. Commits that change no data have none.

// ChangeFolder is where files of changes lie, below the table's folder.
const ChangeFolder = "_change_data"

// ChangeColumn is the column of those files that says what has happened to a row, with one of the texts below.
const ChangeColumn = "_change_type"

// What has happened to a row.
const (
	ChangeInsert = "insert"
	ChangeBefore = "update_preimage"
	ChangeAfter  = "update_postimage"
)

// Cdc is the cdc action: it names a file of changes.
type Cdc struct {
	Path            string            `json:"path"`
	PartitionValues map[string]string `json:"partitionValues"`
	Size            int64             `json:"size"` // bytes
	DataChange      bool              `json:"dataChange"`
}

// ChangeFeed says whether the table has a change data feed, as of the part of the log that has been read. A change that
// removes files needs files of changes then; the commit checks that this still holds.
func (l *Log) ChangeFeed() (on bool) {
	l.View(func(s *Snapshot) { on = s.properties.changeData })
	return on
}

// checkFeed gives ErrRebuild if a change replaces rows with a feed in mind that was switched on or off meanwhile.
func (c *Change) checkFeed(s *Snapshot) error {
	if on := s.properties.changeData; len(c.Removes) > 0 && !c.Rearrange && on != (len(c.Changes) > 0) {
		return fmt.Errorf("%w: its change data feed is on: %t", ErrRebuild, on)
	}
	return nil
}

// apart returns the changes that can be in one commit as readers of a change data feed read it, and puts the others
// back into the queue: those with files of changes, and those that only add rows.
func (l *Log) apart(group []*pending) []*pending {
	feeds := func(p *pending) bool { return len(p.change.Changes) > 0 }
	adds := func(p *pending) bool { return len(p.change.Adds) > 0 && !p.change.Rearrange && !feeds(p) }
	first := slices.IndexFunc(group, func(p *pending) bool { return feeds(p) || adds(p) })
	if first < 0 {
		return group
	}
	other := adds
	if adds(group[first]) {
		other = feeds
	}
	var now, later []*pending
	for _, p := range group {
		// gofail: var bugFeedMixed struct{}
		// other = func(*pending) bool { return false }
		if other(p) {
			later = append(later, p)
		} else {
			now = append(now, p)
		}
	}
	l.committer.putBack(later)
	return now
}

// putBack puts changes into the queue again, before the others, for the commit after this one.
func (c *committer) putBack(later []*pending) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.queue = slices.Concat(later, c.queue)
		return
	}
	for _, p := range later {
		p.finish(0, ErrClosed)
	}
}
