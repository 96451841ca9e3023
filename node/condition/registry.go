package condition

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// maxText bounds a condition's text in bytes: an error of a library may be of any length, and other nodes ask for the
// list.
const maxText = 1024

type key struct {
	id      ID
	subject string
}

// Registry is the list of one node. Its methods are safe for concurrent use.
type Registry struct {
	node string
	now  func() time.Time
	log  *slog.Logger

	mu   sync.Mutex
	list map[key]Condition
	// soon are those that have not lasted for long enough (lasts) to begin.
	soon map[key]Condition
}

// New returns an empty list. node is the name of this node, now its wall clock.
func New(node string, now func() time.Time, log *slog.Logger) *Registry {
	return &Registry{node: node, now: now, log: log, list: map[key]Condition{}, soon: map[key]Condition{}}
}

// Set says that a condition holds. Without severity (0) or todo ("") it has those of the table. If it holds already, it
// keeps its beginning and takes the new text; the log tells a beginning, and a change of severity. One that must last
// for a while (lasts) begins then, unless Clear comes before, and says since when it has lasted.
func (r *Registry) Set(id ID, subject string, severity Severity, text, todo string) {
	spec := specOf(id)
	if severity == 0 {
		severity = spec.Severity
	}
	if todo == "" {
		todo = spec.Todo
	}
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	k := key{id, subject}
	c, holds := r.list[k]
	before := c.Severity
	if !holds {
		var lasts bool
		if c, lasts = r.soon[k]; !lasts {
			c = Condition{ID: id, Node: r.node, Subject: subject, Since: r.now()}
		}
	}
	c.Severity, c.Text, c.Todo = severity, text, todo
	switch {
	case !holds:
		r.soon[k] = c
		r.ripen()
		return
	case before != severity:
		r.log.Log(context.Background(), level(severity), "condition changes", "id", id, "severity", severity.String(),
			"before", before.String(), "subject", subject, "text", text, "todo", todo)
	}
	r.list[k] = c
}

// Ripen lets begin what has lasted for long enough. Whoever looks at the list does so, too; it is for the log, which
// nobody need look at.
func (r *Registry) Ripen() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ripen()
}

// ripen is Ripen with mu held.
func (r *Registry) ripen() {
	for k, c := range r.soon {
		if r.now().Sub(c.Since) < lasts(k.id) {
			continue
		}
		delete(r.soon, k)
		r.list[k] = c
		r.log.Log(context.Background(), level(c.Severity), "condition begins", "id", c.ID, "severity",
			c.Severity.String(), "subject", c.Subject, "text", c.Text, "todo", c.Todo)
	}
}

// Clear says that a condition does not hold, or no longer.
func (r *Registry) Clear(id ID, subject string) { r.end(key{id, subject}, "") }

// Keep sets a condition if text is not empty, and clears it otherwise.
func (r *Registry) Keep(id ID, subject, text string) {
	if text == "" {
		r.Clear(id, subject)
	} else {
		r.Set(id, subject, 0, text, "")
	}
}

// end takes a condition from the list. because says why, unless what it says has simply ceased.
func (r *Registry) end(k key, because string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.soon, k)
	c, holds := r.list[k]
	if !holds {
		return
	}
	delete(r.list, k)
	args := []any{"id", k.id, "severity", c.Severity.String(), "subject", k.subject, "text", c.Text, "seconds",
		r.now().Sub(c.Since).Seconds()}
	if because != "" {
		args = append(args, "because", because)
	}
	r.log.Info("condition ends", args...)
}

// Snapshot returns what holds now, in the order of Compare.
func (r *Registry) Snapshot() []Condition {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ripen()
	out := make([]Condition, 0, len(r.list))
	for _, c := range r.list {
		out = append(out, c)
	}
	slices.SortFunc(out, Compare)
	return out
}

// get returns a condition that holds, or that has not lasted for long enough.
func (r *Registry) get(k key) (Condition, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.list[k]
	if !ok {
		c, ok = r.soon[k]
	}
	return c, ok
}

func level(s Severity) slog.Level {
	switch s {
	case Stopped:
		return slog.LevelError
	case Failing, Degraded:
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

var desc = prometheus.NewDesc("deckle_condition",
	"Number of subjects for which a condition holds on this node; docs/operations.md says what to do for each id.",
	[]string{"id", "severity"}, nil)

// Describe implements prometheus.Collector.
func (r *Registry) Describe(ch chan<- *prometheus.Desc) { ch <- desc }

// Collect implements prometheus.Collector. Every id of the table is there, with 0 if it does not hold, so that an alert
// can tell "does not hold" from "is not known".
func (r *Registry) Collect(ch chan<- prometheus.Metric) {
	type series struct {
		id       ID
		severity Severity
	}
	count := map[series]int{}
	for _, s := range table {
		count[series{s.ID, s.Severity}] = 0
	}
	for _, c := range r.Snapshot() {
		count[series{c.ID, c.Severity}]++
	}
	for s, n := range count {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(n), string(s.id), s.severity.String())
	}
}
