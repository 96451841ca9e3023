package raftstore

import (
	"cmp"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Why a request between nodes is refused: the label of deckle_raft_requests_refused_total.
const (
	whySender    = "sender"     // it does not say that it comes from whoever it comes from
	whyAddress   = "address"    // its address is not that of the server which it names
	whyReplaced  = "replaced"   // its server is known to be replaced
	whyTerm      = "term"       // its term is too far above ours
	whyNotLeader = "not_leader" // it asks for an election, and is not of the leader that this server follows
)

// refusal is why something that came from another node was not taken.
type refusal struct {
	why string // one of the constants above
	err error  // wraps errRefused
}

func refused(why, format string, args ...any) *refusal {
	return &refusal{why, fmt.Errorf("%w (%s): %s", errRefused, why, fmt.Sprintf(format, args...))}
}

// noShard is the shard of control requests in metrics.
const noShard = ""

// refusals counts what was refused between the nodes, logs it, and remembers the latest of each kind.
type refusals struct {
	logger   *slog.Logger
	requests func(shard, why string) // counts a request
	answers  func(shard, why string) // counts an answer
	conns    func(why string)        // counts a connection

	mu   sync.Mutex
	last map[refusalKey]*lastRefusal
}

// refusalKey is what is remembered once: of names that a stranger gives, only those of configured nodes come here.
type refusalKey struct{ from, why string }

type lastRefusal struct {
	at, logged time.Time
	text       string
	unlogged   int // since logged
}

// logEvery is how often refusals of one kind from one peer are logged.
const logEvery = time.Minute

func newRefusals(logger *slog.Logger, met *metrics) *refusals {
	return &refusals{
		logger: logger, last: map[refusalKey]*lastRefusal{},
		requests: func(shard, why string) { met.requests.WithLabelValues(shard, why).Inc() },
		answers:  func(shard, why string) { met.answers.WithLabelValues(shard, why).Inc() },
		conns:    func(why string) { met.conns.WithLabelValues(why).Inc() },
	}
}

// request notes a request that was refused. from is the configured node that it came from, or else says it came from,
// "" if neither is known.
func (r *refusals) request(shard, from string, why *refusal) {
	r.requests(shard, why.why)
	r.note("request refused", shard, refusalKey{from, why.why}, why.err)
}

// answer notes that the answer of a node to a request of this one was refused.
func (r *refusals) answer(shard, from string, why *refusal) {
	r.answers(shard, why.why)
	r.note("answer refused", shard, refusalKey{from, "answer's " + why.why}, why.err)
}

// connection notes a connection that was refused. from is the node or the address that has shown a certificate of the
// CA, "" if none was shown.
func (r *refusals) connection(why, from string, err error) {
	r.conns(why)
	r.note("connection refused", noShard, refusalKey{from, "connection's " + why}, err)
}

// keptRefusals bounds what is remembered: addresses may be many.
const keptRefusals = 256

func (r *refusals) note(what, shard string, key refusalKey, err error) {
	now := time.Now()
	r.mu.Lock()
	l := r.last[key]
	if l == nil {
		l = new(lastRefusal)
		r.last[key] = l
	}
	for len(r.last) > keptRefusals {
		oldest := key
		for k, other := range r.last {
			if k != key && (oldest == key || other.at.Before(r.last[oldest].at)) {
				oldest = k
			}
		}
		delete(r.last, oldest)
	}
	l.at, l.text = now, err.Error()
	log, more := now.Sub(l.logged) >= logEvery, l.unlogged
	if log {
		l.logged, l.unlogged = now, 0
	} else {
		l.unlogged++
	}
	r.mu.Unlock()
	if log {
		r.logger.Warn("raft port: "+what, "shard", shard, "from", key.from, "error", err, "alike_since", more)
	}
}

// recent returns the latest refusal of each node, in the order of their names, if it is not older than within. What a
// leader asks for that has just ceased to be one is none.
func (r *refusals) recent(within time.Duration) (list []Refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	latest := map[string]*lastRefusal{}
	for key, l := range r.last {
		newest := latest[key.from] == nil || latest[key.from].at.Before(l.at)
		if newest && !slices.Contains(unremarkable, key.why) && time.Since(l.at) < within {
			latest[key.from] = l
		}
	}
	for from, l := range latest {
		list = append(list, Refusal{From: from, Text: l.text})
	}
	slices.SortFunc(list, func(a, b Refusal) int { return cmp.Compare(a.From, b.From) })
	return list
}

// unremarkable are refusals that say nothing of a member: a leader that has just ceased to be one asks for an election;
// a stranger has shown no certificate of the CA.
var unremarkable = []string{
	whyNotLeader, "connection's " + whyPlain, "connection's " + whyHandshake, "connection's " + whyTooMany,
}

func shardLabel(shard uint32) string { return strconv.FormatUint(uint64(shard), 10) }
