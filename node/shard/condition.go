package shard

import (
	"fmt"
	"maps"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"deckle/node/status"
)

// condition is how a shard's leader is doing, as Status shows it. Intake and flushers write it, anyone may read it.
type condition struct {
	retries *prometheus.CounterVec // by part

	mu      sync.Mutex
	term    uint64 // of the leadership
	running bool   // intake runs
	waiting string // what a leader that does not run yet waits for
	intake  intakeCondition
	failing map[string]string // by part
	stopped map[string]string // by part
}

// intakeCondition is what an intake finds a few times per second.
type intakeCondition struct {
	lagRecords int64
	lagSeconds float64
	paused     string
	ahead      []int32 // never changed once set
}

func newCondition(m *Metrics) *condition {
	return &condition{retries: m.retries, failing: map[string]string{}, stopped: map[string]string{}}
}

// begin starts a leadership.
func (c *condition) begin(term uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.term, c.waiting, c.intake.paused, c.intake.ahead = term, "applying what is committed", "", nil
	c.failing, c.stopped = map[string]string{}, map[string]string{}
}

// end ends the work of a leadership. A reason, if there is one, says why it waits for an operator.
func (c *condition) end(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running, c.intake = false, intakeCondition{}
	c.waiting = "the next leadership"
	c.failing = map[string]string{}
	if reason != "" {
		c.stopped["shard"] = reason
	}
}

// clear forgets what has stopped, when the leadership itself is over.
func (c *condition) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = map[string]string{}
}

// setFailing shows that a part is being retried; a nil error shows that it works again.
func (c *condition) setFailing(part string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		delete(c.failing, part)
	} else {
		c.failing[part] = err.Error()
		c.retries.WithLabelValues(part).Inc()
	}
}

// setStopped shows that a part waits for an operator.
func (c *condition) setStopped(part, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.failing, part)
	c.stopped[part] = reason
}

// stoppedFor returns why a part waits for an operator in this leadership, "" if it does not.
func (c *condition) stoppedFor(part string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stopped[part]
}

// setWaiting shows what the leader waits for before its intake runs; "" shows that it runs.
func (c *condition) setWaiting(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting, c.running = what, what == ""
}

func (c *condition) setIntake(i intakeCondition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.intake = i
}

// show puts a leader's condition into st, and returns why it keeps the node from being ready, and what else goes wrong.
func (c *condition) show(st *status.Shard) (reasons, troubles []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	st.Term = max(c.term, st.Term)
	st.Paused, st.Ahead = c.intake.paused, c.intake.ahead
	st.LagRecords, st.LagSeconds = c.intake.lagRecords, c.intake.lagSeconds
	maps.Copy(st.Failing, c.failing)
	maps.Copy(st.Stopped, c.stopped)
	if !c.running && len(c.stopped) == 0 {
		reasons = append(reasons, fmt.Sprintf("shard %d does not run yet: %s", st.Shard, c.waiting))
	}
	for part, why := range c.stopped {
		reasons = append(reasons, fmt.Sprintf("shard %d: %s stopped: %s", st.Shard, part, why))
	}
	for part, why := range c.failing {
		troubles = append(troubles, fmt.Sprintf("shard %d: %s is failing and retried: %s", st.Shard, part, why))
	}
	if st.Paused != "" {
		troubles = append(troubles, fmt.Sprintf("shard %d: intake is paused: %s", st.Shard, st.Paused))
	}
	return reasons, troubles
}
