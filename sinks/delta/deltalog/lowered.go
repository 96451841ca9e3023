package deltalog

import (
	"strings"
)

// A txn never goes back by a commit of this package. If one has, another tool has set it back, or the log is an older
// copy of itself: rows that were acknowledged may be gone, and others would be written a second time. Nobody but an
// operator knows which, so that nothing of that shard is written until it is settled.

// lowered is the greatest version of a txn that was read, and the version of the table at which it was less.
type lowered struct{ from, at int64 }

// noteTxn takes a txn of the snapshot's version.
func (s *Snapshot) noteTxn(t Txn) (back bool) {
	was := max(s.txn(t.AppID), s.lowered[t.AppID].from)
	if back = t.Version < was && s.ofPlans(t.AppID); back {
		s.lowered[t.AppID] = lowered{was, s.Version}
	} else if t.Version >= was {
		delete(s.lowered, t.AppID)
	}
	s.Txns[t.AppID] = t
	return back
}

// ofPlans reports whether an application id is that of a shard's plans, in the pipeline whose table it is.
func (s *Snapshot) ofPlans(appID string) bool {
	if s.Metadata == nil {
		return false
	}
	cluster, pipeline := s.Metadata.Configuration[ConfigClusterID], s.Metadata.Configuration[ConfigPipeline]
	return strings.HasPrefix(appID, cluster+"/"+pipeline+"/") && appID != NoticedID(cluster, pipeline) &&
		appID != AcceptedID(cluster, pipeline)
}

// follow compares a snapshot that was read from the store with the one in whose place it is put: what that had must
// still be there.
func (s *Snapshot) follow(former *Snapshot) {
	if former == nil {
		return
	}
	for id, t := range former.Txns {
		was := max(t.Version, former.lowered[id].from, s.lowered[id].from)
		if s.txn(id) < was && former.ofPlans(id) {
			at := max(s.lowered[id].at, former.lowered[id].at)
			if at == 0 {
				at = max(s.Version, 1)
			}
			s.lowered[id] = lowered{was, at}
		}
	}
}

// WentBack is a *sinks.StopError if the txn of an application id is less than it was, as far as this process has read
// the log, and nobody has settled it since (AcceptedID); nil otherwise.
func (s *Snapshot) WentBack(table, appID string) error {
	// gofail: var bugTxnBack struct{}
	// return nil
	low, ok := s.lowered[appID]
	if !ok || s.settledUpTo() >= low.at {
		return nil
	}
	return stop(table, "if its rows are there, have the tool that has done it set the txn again; if they are gone, or "+
		"the log is an older copy on purpose, say so: deckle delta forget-gaps "+table+". The sink goes on by itself",
		"it went back at version %d: the txn of %s is at %d and was at %d", low.at, appID, s.txn(appID), low.from)
}

// settledUpTo is the version up to which an operator has said what becomes of rows that are gone.
func (s *Snapshot) settledUpTo() int64 {
	return s.txn(AcceptedID(s.Metadata.Configuration[ConfigClusterID], s.Metadata.Configuration[ConfigPipeline]))
}

// anyBack reports whether a txn is less than it was, and nobody has settled it.
func (s *Snapshot) anyBack() bool {
	for _, low := range s.lowered {
		if s.settledUpTo() < low.at {
			return true
		}
	}
	return false
}
