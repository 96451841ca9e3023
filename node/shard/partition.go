package shard

import (
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/node/kafka"
)

// partition is where one partition of the shard stands in this run of the intake.
type partition struct {
	id        int32
	next      int64     // the next offset to propose
	applied   int64     // the next offset to apply
	moved     time.Time // when applied last moved, or the run began
	last      int64     // Kafka timestamp of the last applied record, Unix milliseconds; 0 before the first
	end       int64     // last stable offset, as last heard of
	head      time.Time // when what is proposed last reached the end of the log; zero if it never has
	atEnd     time.Time // since when it has been seen at its end; zero if it has not
	seenAtEnd time.Time // the last listing that showed it there
	tooShort  int       // listings in a row that showed a log shorter than what has been applied
	unlisted  bool      // the last listing had no end of it
	listed    time.Time // when the last listing began that had its end; zero if none had
	ahead     bool      // fetching is paused: it runs ahead of the shard's clock, and the others must follow
	followed  time.Time // when the others had followed, and it was read again; zero if it has never waited
	stopped   string    // why it waits for an operator
	failing   *failure  // why it cannot be read for now, and when that is tried again; nil if it can
	lastFail  *failure  // the one before; its backoff goes on if nothing has been read since
	silent    time.Time // since when listings have shown more than is delivered; zero if they do not
	gen       uint32    // of its parts; those of another one are of no use
	epoch     int32     // leader epoch of the last accepted record, -1 if unknown
	unkeyed   int       // first records, all without a key
	keyed     bool      // one has had a key
	proof     proof     // that the log is the one that was read
}

// failure is why a partition cannot be read for now. The partition is paused; a probe tries it again and again, from
// the next offset on. What is wrong concerns no other partition.
type failure struct {
	err  error
	at   int64     // the next offset, when it failed
	due  time.Time // of the next probe
	wait *backoff.ExponentialBackOff
	// compares says that the partition can be read, as far as is known, but its last record is yet to be compared.
	// Then due is the time of the next comparison.
	compares bool
}

// probe is one attempt to read a partition that failed, with a client of its own. There is one at a time per shard:
// many clients would be a storm upon brokers that have trouble already.
type probe struct {
	p     *partition
	fatal bool
	err   error
	done  chan struct{} // closed when fatal and err are set
}

const (
	// firstRecords are looked at to tell a producer without keys from a stray record; fewestFirst must have been seen.
	firstRecords = 100
	fewestFirst  = 10
	// shortListings in a row make a log that is too short a fact.
	shortListings = 3
)

// withoutKeys looks at the first records of a partition. A few without a key are dead letters; if there is not one with
// a key among many, it is the producer's habit.
func (p *partition) withoutKeys(rs []*kgo.Record) bool {
	for _, r := range rs {
		if r.Attrs.IsControl() {
			continue
		}
		if len(r.Key) > 0 || p.unkeyed >= firstRecords {
			p.keyed = len(r.Key) > 0
			return !p.keyed
		}
		p.unkeyed++
	}
	return p.unkeyed >= fewestFirst
}

// observe takes what a listing shows of the partition: nothing if it was begun before the last record was applied.
func (p *partition) observe(l *kafka.Listing, now time.Time) {
	end, ok := l.Ends[p.id]
	if ok {
		p.listed = l.Begun
	}
	switch {
	case !ok:
		p.atEnd = time.Time{}
	case l.Begun.Before(p.moved):
	case end > p.applied:
		p.end, p.atEnd, p.tooShort = end, time.Time{}, 0
	case end < p.applied:
		p.atEnd, p.tooShort = time.Time{}, p.tooShort+1
	default:
		p.end, p.seenAtEnd, p.tooShort, p.head = end, now, 0, l.Begun
		if p.atEnd.IsZero() {
			p.atEnd = l.Begun
		}
	}
}

// heard is when a broker last answered for the partition as one that works does: by records, or by showing it at its
// end. One that waits for the others is not asked for records, so that it is enough that its end is known.
func (p *partition) heard() time.Time {
	at := p.moved
	if p.seenAtEnd.After(at) {
		at = p.seenAtEnd
	}
	if p.ahead && p.listed.After(at) {
		at = p.listed
	}
	return at
}

// atHead says that what is proposed has reached the end of the log within a time.
func (p *partition) atHead(now time.Time, within time.Duration) bool {
	return !p.head.IsZero() && now.Sub(p.head) <= within
}

// hasBacklog says that there is more to read, and that what is proposed has not reached the end of the log within a
// time.
func (p *partition) hasBacklog(now time.Time, within time.Duration) bool {
	return p.applied < p.end && !p.atHead(now, within)
}

// reads says that the partition is neither stopped nor failing.
func (p *partition) reads() bool { return p.stopped == "" && p.failing == nil }

// isIdle says that the partition has been at its end for the time after, and that no listing older than stale says so.
func (p *partition) isIdle(now time.Time, after, stale time.Duration) bool {
	return p.reads() && p.proof.proven() && !p.ahead && p.next == p.applied && !p.atEnd.IsZero() &&
		now.Sub(p.atEnd) >= after && now.Sub(p.seenAtEnd) <= stale
}
