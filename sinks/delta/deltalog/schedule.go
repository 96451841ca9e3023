package deltalog

// When a checkpoint is made. doc.go has the rule in words.
const (
	dataPerCheckpoint = 50       // bytes of data for one byte of checkpoints: 2 %
	freeCheckpoint    = 32 << 10 // bytes of a checkpoint whose cost does not count

	shortestTail = 100      // commits after a checkpoint that every reader may have to read
	tailCommit   = 20 << 10 // bytes of checkpoint for which a reader may have to read one commit more
	longestTail  = 1000

	takeover = 1 << 20 // bytes of checkpoint for which another node waits one commit longer
)

// tail is the largest number of commits after a checkpoint of size bytes.
func tail(size int64) int64 { return min(longestTail, shortestTail+size/tailCommit) }

// due returns the version at which the checkpoint after the newest known one is to be made, -1 if none is yet. It
// follows from the log, the checkpoint's size and the least interval alone: nodes that know the same agree on it.
func (s *Snapshot) due(least int64) int64 {
	from, every := max(s.Checkpoint, 0), s.properties.checkpointInterval
	data := int64(0)
	for _, c := range s.since {
		if c.version <= from {
			continue // another node has made a checkpoint of what this one has not read yet
		}
		data += c.written
		n := c.version - from
		switch {
		case every > 0:
			if n >= every && (c.version%every == 0 || n >= 2*every) {
				return c.version
			}
		case n < least:
		case s.checkpointSize <= freeCheckpoint || s.checkpointSize <= data/dataPerCheckpoint,
			n >= tail(s.checkpointSize):
			return c.version
		}
	}
	return -1
}

// mine reports whether the node that has just committed the snapshot's version makes the checkpoint. The node that
// commits the version at which it is due does so. If no checkpoint appears for some commits, any other one takes over.
func (s *Snapshot) mine(least int64) bool {
	due := s.due(least)
	grace := least
	if every := s.properties.checkpointInterval; every > 0 {
		grace = min(grace, every)
	}
	return due >= 0 && (due == s.Version || s.Version >= due+grace+s.checkpointSize/takeover)
}
