package web

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"deckle"
	"deckle/node/access"
	"deckle/node/condition"
	"deckle/node/front"
	"deckle/node/status"
	"deckle/node/tap"
	"deckle/schema"
)

// SuppressionList is the list of suppressed readers. Ids of readers come to it in bodies alone, and what it returns has
// none, but for the open sessions of those who were added.
type SuppressionList interface {
	// Hash returns by what the audit log knows the ids of a request; "" if no reader was ever listed.
	Hash(q *status.ListRequest) string
	// Do carries a request out. The error wraps status.ErrRefused if nothing has changed.
	Do(ctx context.Context, q *status.ListRequest) (*status.ListOutcome, error)
	// Page returns at most n readers on the list, those from a place on.
	Page(from, n int) (*status.ListPage, error)
}

// Source is where the handler gets its figures: one node, or several in one process. Its methods are safe
// for concurrent use.
type Source interface {
	Status() status.Node
	// Store returns a replica of the shard, nil while this process has none.
	Store(shard uint32) Replica
}

// Replica is the part of a shard's state that the handler reads; *state.Store is one.
type Replica interface {
	Rollups(yield func(*schema.RollupRow) error) error
	Session(id string) (*schema.SessionRow, bool, error)
}

// Commander carries out an operator's command. The error wraps status.ErrRefused if nothing has changed.
type Commander func(ctx context.Context, c status.Command) (status.Outcome, error)

// Tables carries out what an operator asks of a Delta table. The error wraps status.ErrRefused if nothing has changed.
type Tables func(ctx context.Context, q *status.TableRequest) (*status.TableOutcome, error)

// Letters are the dead letters of the source topic. The errors wrap status.ErrRefused if nothing has changed.
type Letters interface {
	List(ctx context.Context, q *status.LetterQuery) (*status.LetterPage, error)
	Show(ctx context.Context, ref status.LetterRef) (*status.Letter, error)
	Do(ctx context.Context, q *status.LetterRequest) (*status.LetterOutcome, error)
}

// Mover moves leaderships between the nodes, and the level of their shards. The errors wrap status.ErrRefused if
// nothing has changed.
type Mover interface {
	Transfer(ctx context.Context, q *status.TransferRequest) (*status.TransferOutcome, error)
	Drain(ctx context.Context, q *status.DrainRequest) (*status.DrainOutcome, error)
	// Finalize lets the level of every shard rise.
	Finalize(ctx context.Context, asker *status.Asker) (*status.FinalizeOutcome, error)
}

// Config returns the configuration with which the node runs: as JSON is to show it, and as a file that says the same.
// Secrets are masked in both.
type Config func() (values any, yaml string)

// Options are the other things that a handler uses. Each may be left out.
type Options struct {
	Gatherer prometheus.Gatherer // the metrics that /metrics shows; by default those of the process
	Now      func() time.Time    // default time.Now
	Logger   *slog.Logger
	Command  Commander // without it there are no commands
	// AddPartitions has partitions be read that were added to the topic; without it none are.
	AddPartitions func(context.Context, status.AddPartitions) (*status.PartitionsAdded, error)
	// Suppressions is the list of suppressed readers; without it there is none.
	Suppressions SuppressionList
	// Tables carries out what is asked of Delta tables; without it there are none.
	Tables Tables
	// Letters are the dead letters; without it there are none.
	Letters Letters
	// Tap is where to look at what passes through the node; without it there is nothing to look at.
	Tap *tap.Board
	// Mover moves leaderships between the nodes; without it there are no such commands.
	Mover Mover
	// Encryption looks at what the files of the data folder are sealed with, and returns what JSON is to show of it;
	// without it there is nothing to show.
	Encryption func() (any, error)
	// Config is the configuration; without it there is none to show, and no support bundle.
	Config Config
	// Recent returns the newest lines of the log, for a support bundle; without it there are none.
	Recent func() []byte
	// Commits returns what JSON is to show of the newest commits of the Delta tables, for a support bundle; without it
	// there are none.
	Commits func(ctx context.Context) any
	// Gate judges requests first; by default one that answers under localhost and the server's addresses, without
	// metrics.
	Gate *front.Gate
	// Access knows who may what; by default everybody is an administrator.
	Access *access.Access
	// Audit is the log of who did what; without it there is none.
	Audit *access.Audit
	// Open names what is answered without authentication: livez, readyz, metrics. nil: nothing is.
	Open func() []string
	// Insecure says that somebody has agreed to go without authentication, whoever reaches the server.
	Insecure bool
}

type handler struct {
	src      Source
	now      func() time.Time
	log      *slog.Logger
	start    time.Time
	gate     *front.Gate
	access   *access.Access
	audit    *access.Audit // nil: there is none
	open     func() []string
	insecure bool
	command  Commander // nil: there are no commands
	// add is nil where no partitions are added.
	add func(context.Context, status.AddPartitions) (*status.PartitionsAdded, error)
	// suppressions is nil where there is no list.
	suppressions SuppressionList
	tables       Tables // nil: there are none
	letters      Letters
	tap          *tap.Board // nil: there is none
	mover        Mover      // nil: there is none
	config       Config     // nil: it is not shown
	recent       func() []byte
	commits      func(context.Context) any
	metrics      http.Handler
	analytics    cached[*Analytics]
	// encryption reads the beginning of every file: those who ask at once wait for one look.
	encryption cached[any]
}

// reply answers with v as JSON.
func (h *handler) reply(w http.ResponseWriter, code int, v any) {
	h.write(w, code, "application/json", v)
}

func (h *handler) write(w http.ResponseWriter, code int, contentType string, v any) {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		h.log.Error("http answer cannot be encoded", "error", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = w.Write(append(body, '\n'))
}

// ready is the answer of /readyz.
type ready struct {
	Node    string   `json:"node"`
	Ready   bool     `json:"ready"`
	Reasons []string `json:"reasons"`
	// Warnings are all conditions of this node, in one line each; Conditions are the same in full.
	Warnings   []string              `json:"warnings"`
	Conditions []condition.Condition `json:"conditions"`
}

func (h *handler) serveReady(w http.ResponseWriter, r *http.Request) {
	st := h.src.Status()
	code := http.StatusOK
	if !st.Ready {
		code = http.StatusServiceUnavailable
	}
	if callOf(r).principal.Role < access.Viewer { // it is left open, and reasons are for those who may know
		h.reply(w, code, struct {
			Ready bool `json:"ready"`
		}{st.Ready})
		return
	}
	h.reply(w, code, ready{Node: st.Node, Ready: st.Ready, Reasons: list(st.Reasons), Warnings: list(warnings(&st)),
		Conditions: list(st.Conditions)})
}

// warnings returns what an operator should look at, whether the node is ready or not.
func warnings(st *status.Node) []string {
	var out []string
	for i := range st.Conditions {
		out = append(out, st.Conditions[i].String())
	}
	return out
}

func (h *handler) serveStatus(w http.ResponseWriter, _ *http.Request) {
	st := h.src.Status()
	h.reply(w, http.StatusOK, newAPIStatus(&st, h.now(), h.start))
}

func (h *handler) serveEncryption(w http.ResponseWriter, r *http.Request) {
	keys, err := h.encryption.get(h.now())
	if err != nil {
		h.log.Error("the keys of the files cannot be looked at", "request", callOf(r).id, "error", err)
		h.fail(w, r, "internal", "the data folder cannot be read; the log says why")
		return
	}
	h.reply(w, http.StatusOK, keys)
}

func (h *handler) serveLive(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }

func (h *handler) serveVersion(w http.ResponseWriter, _ *http.Request) {
	h.reply(w, http.StatusOK, deckle.Build())
}

func (h *handler) serveMetrics(w http.ResponseWriter, r *http.Request) { h.metrics.ServeHTTP(w, r) }

// list returns s, or an empty list for nil, so that JSON shows [] and not null.
func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
