package shard

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"deckle/node/condition"
	"deckle/node/config"
	"deckle/node/kafka"
	"deckle/node/status"
	"deckle/state"
)

// standing is how a shard's leader is doing. What is not as it should be goes to the node's list of conditions, from
// which status.Shard is derived; a leadership that is over has none. Intake, flushers and judge write it, anyone may
// read it.
type standing struct {
	shard   uint32
	cfg     *config.Config
	clock   func() time.Time
	list    *condition.Registry
	written *Tally
	retries *prometheus.CounterVec // by part

	mu    sync.Mutex
	term  uint64 // of the leadership
	scope *condition.Scope
	seen  map[int32]seen // by partition
	// Why the source fails: the brokers cannot be asked, or what they answer cannot be read.
	asking, fetching string
	lost             *kafka.LostError // for which the raw events wait, nil if they do not
}

// seen is what the intake has seen of a partition.
type seen struct {
	end  int64 // last stable offset, as last heard of
	last int64 // Kafka timestamp of the last applied record, Unix milliseconds; 0 or less if unknown
}

func newStanding(env *Env, shard uint32) *standing {
	return &standing{shard: shard, cfg: env.Config, clock: env.Now, list: env.Conditions, written: env.Written,
		retries: env.Metrics.retries, scope: env.Conditions.Scope()}
}

// part is the name of something that can fail or stop on its own: "shard", "source", a sink's name or partName.
type part = string

const (
	partShard  part = "shard"
	partSource part = "source"
)

func partName(p int32) part { return fmt.Sprintf("partition %d", p) }

func (c *standing) subject() string { return fmt.Sprintf("shard %d", c.shard) }

// of is the subject of a sink of this shard.
func (c *standing) of(sink string) string { return fmt.Sprintf("%s of shard %d", sink, c.shard) }

// partOf is the part that a condition is about.
func partOf(c *condition.Condition) part {
	switch c.ID {
	case condition.ShardStopped, condition.PrivacyWaits, condition.PrivacyKeyMissing:
		return partShard
	case condition.SourceFailing:
		return partSource
	}
	before, _, _ := strings.Cut(c.Subject, " of shard ")
	return before
}

// begin starts a leadership.
func (c *standing) begin(term uint64) {
	c.mu.Lock()
	c.term, c.scope, c.seen, c.asking, c.fetching, c.lost = term, c.list.Scope(), nil, "", "", nil
	c.mu.Unlock()
	c.setWaiting("applying what is committed")
}

// end ends the work of a leadership: nothing is retried any more. A reason, if there is one, says why it waits for an
// operator.
func (c *standing) end(reason string) {
	s := c.now()
	if reason != "" {
		s.Set(condition.ShardStopped, c.subject(), 0, reason, "")
	}
	s.Retain(func(id condition.ID, _ string) bool { return condition.Of(id).Severity == condition.Stopped },
		"the shard has stopped, or the leadership is over")
}

// clear forgets everything, when the leadership itself is over.
func (c *standing) clear() { c.now().End("the leadership is over") }

// now is the scope of the present leadership.
func (c *standing) now() *condition.Scope {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.scope
}

// keep sets a condition of the present leadership if text is not empty, and clears it otherwise.
func (c *standing) keep(id condition.ID, subject, text string) { c.now().Keep(id, subject, text) }

// setFailing shows that a part is being retried; a nil error shows that it works again.
func (c *standing) setFailing(p part, err error) {
	kind, _, _ := strings.Cut(p, " ") // all partitions together
	if err != nil {
		c.retries.WithLabelValues(kind).Inc()
	}
	switch sink, ok := sinkNamed(p); {
	case p == partSource:
		c.mu.Lock()
		c.asking = c.explained(p, err)
		c.mu.Unlock()
		c.showSource()
	case ok:
		id, other := condition.SinkFailing, condition.SinkNeverWrote
		if !c.written.ever(sink) {
			id, other = other, id
		}
		c.keep(id, c.of(p), c.explained(p, err))
		c.keep(other, c.of(p), "")
	default:
		c.keep(condition.PartitionFailing, p, text(err))
	}
}

// setFetching shows why what the brokers answer cannot be read; nil shows that it can. It is kept apart from whether
// they can be asked: where each question is answered and each fetch fails, the source fails all the time.
func (c *standing) setFetching(err error) {
	if err != nil {
		c.retries.WithLabelValues(partSource).Inc()
	}
	c.mu.Lock()
	c.fetching = c.explained(partSource, err)
	c.mu.Unlock()
	c.showSource()
}

func (c *standing) showSource() {
	c.mu.Lock()
	why := cmp.Or(c.asking, c.fetching)
	c.mu.Unlock()
	c.keep(condition.SourceFailing, c.subject(), why)
}

// setStopped shows that a part waits for an operator.
func (c *standing) setStopped(p part, reason string) {
	id, subject := condition.PartitionStopped, p
	if _, ok := sinkNamed(p); ok {
		id, subject = condition.SinkStopped, c.of(p)
	}
	c.setFailing(p, nil)
	c.keep(id, subject, reason)
}

// clearStopped shows that a part does not wait for an operator any more.
func (c *standing) clearStopped(p part) {
	if _, ok := sinkNamed(p); ok {
		c.keep(condition.SinkStopped, c.of(p), "")
		return
	}
	c.keep(condition.PartitionStopped, p, "")
}

// setLost shows which records the raw events wait for that Kafka cannot give; nil shows that they do not wait.
func (c *standing) setLost(lost *kafka.LostError) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost = lost
}

func (c *standing) lostEvents() *kafka.LostError {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lost
}

// stoppedFor returns why a partition waits for an operator in this leadership, "" if it does not.
func (c *standing) stoppedFor(p part) string {
	found, _ := c.now().Get(condition.PartitionStopped, p)
	return found.Text
}

// setWaiting shows what the leader waits for before its intake runs; "" shows that it runs.
func (c *standing) setWaiting(what string) {
	if what != "" {
		what = "does not run yet: " + what
	}
	c.keep(condition.ShardStarting, c.subject(), what)
}

// pausedText goes before the reason for which intake rests.
const pausedText = "intake is paused: "

// setPaused shows why intake rests; "" shows that it does not.
func (c *standing) setPaused(why string) {
	if why != "" {
		why = pausedText + why
	}
	c.keep(condition.IntakePaused, c.subject(), why)
}

// setSeen takes what the intake has seen of the partitions.
func (c *standing) setSeen(all map[int32]seen) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = all
}

func (c *standing) lastSeen() map[int32]seen {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen // never changed once set
}

// show puts a leader's standing into st.
func (c *standing) show(st *status.Shard) {
	c.mu.Lock()
	term, scope := c.term, c.scope
	c.mu.Unlock()
	st.Term = max(term, st.Term)
	for _, found := range scope.Snapshot() {
		switch {
		case found.ID == condition.IntakePaused:
			st.Paused = strings.TrimPrefix(found.Text, pausedText)
		case found.ID == condition.PartitionPaused:
			if n, err := strconv.Atoi(strings.TrimPrefix(found.Subject, "partition ")); err == nil {
				st.Ahead = append(st.Ahead, int32(n))
			}
		case found.Severity == condition.Failing:
			st.Failing[partOf(&found)] = found.Text
		case found.Severity == condition.Stopped:
			st.Stopped[partOf(&found)] = found.Text
		}
	}
	slices.Sort(st.Ahead)
}

// sinkNamed returns the sink of a name.
func sinkNamed(name string) (state.SinkID, bool) {
	for id := range state.NumSinks {
		if id.String() == name {
			return id, true
		}
	}
	return 0, false
}

// explained is an error's text, with what it is probably about.
func (c *standing) explained(p part, err error) string {
	if h := hint(c.cfg, p, err, c.clock()); h != "" {
		return h + " (" + err.Error() + ")"
	}
	return text(err)
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
