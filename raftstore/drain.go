package raftstore

// Drain lets this node give every group that it leads to another one that is fit, and be offered none, until
// Drain(false) or the end of the process: nothing of it is on disk. A group that no other node can take stays here and
// takes entries; so does one that this node is elected for, until another node can take it. A drained node votes, and
// has every entry, as any other.
func (s *Store) Drain(on bool) {
	if s.drained.Swap(on) != on {
		s.logger.Info("raftstore: the leaderships of this node", "drained", on)
	}
}

// Drained tells whether Drain is in force.
func (s *Store) Drained() bool { return s.drained.Load() }
