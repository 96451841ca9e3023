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
}

// New returns an empty list. node is the name of this node, now its wall clock.
func New(node string, now func() time.Time, log *slog.Logger) *Registry {
	return &Registry{node: node, now: now, log: log, list: map[key]Condition{}}
}

// Set says that a condition holds. Without severity (0) or todo ("") it has those of the table. If it holds already, it
// keeps its beginning and takes the new text; the log tells a beginning, and a change of severity.
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
		c = Condition{ID: id, Node: r.node, Subject: subject, Since: r.now()}
	}
	c.Severity, c.Text, c.Todo = severity, text, todo
	r.list[k] = c
	switch {
	case !holds:
		r.log.Log(context.Background(), level(severity), "condition begins", "id", id, "severity", severity.String(),
			"subject", subject, "text", text, "todo", todo)
	case before != severity:
		r.log.Log(context.Background(), level(severity), "condition changes", "id", id, "severity", severity.String(),
			"before", before.String(), "subject", subject, "text", text, "todo", todo)
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
	out := make([]Condition, 0, len(r.list))
	for _, c := range r.list {
		out = append(out, c)
	}
	slices.SortFunc(out, Compare)
	return out
}

func (r *Registry) get(k key) (Condition, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.list[k]
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
