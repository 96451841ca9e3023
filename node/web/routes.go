package web

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"deckle/node/access"
	"deckle/node/front"
	"deckle/node/status"
)

// rest is how the path of a route ends that takes any text behind it.
const rest = "{id}"

var routes = []route{
	{method: http.MethodGet, path: "/", public: true, brands: whole, class: front.Page, serve: (*handler).servePage,
		about: "the page of live figures, without any figure in it"},
	{method: http.MethodGet, path: "/livez", role: access.Viewer, brands: whole, class: front.Probe,
		serve: (*handler).serveLive,
		about: "200 as long as the process serves"},
	{method: http.MethodGet, path: "/readyz", role: access.Viewer, brands: whole, class: front.Probe,
		serve: (*handler).serveReady,
		about: "200 or 503, with reasons and conditions of this node"},
	{method: http.MethodGet, path: "/metrics", role: access.Viewer, class: front.Heavy,
		serve: (*handler).serveMetrics,
		about: "Prometheus metrics"},
	{method: http.MethodGet, path: "/version", role: access.Viewer, brands: whole, class: front.Read,
		serve: (*handler).serveVersion,
		about: "the build"},
	{method: http.MethodGet, path: "/api/v1/whoami", role: access.Viewer, class: front.Read, brands: whole,
		serve: (*handler).serveWhoami,
		about: "who asks, as the node sees it, and what they may"},
	{method: http.MethodPost, path: "/api/v1/login", public: true, login: true, brands: whole, verb: "login",
		class: front.Login, serve: (*handler).serveLogin,
		about: "`{\"token\": \"…\"}`: sets the cookie with which the page reads"},
	{method: http.MethodPost, path: "/api/v1/logout", public: true, login: true, brands: whole, class: front.Page,
		serve: (*handler).serveLogout,
		about: "`{}`: takes the cookie away"},
	{method: http.MethodGet, path: "/api/v1/status", role: access.Viewer, old: "/api/status", class: front.Read,
		serve: (*handler).serveStatus,
		about: "conditions of the cluster, shards, sinks, partitions, delays"},
	{method: http.MethodGet, path: "/api/v1/cluster", role: access.Viewer, class: front.Read,
		serve: (*handler).serveCluster,
		about: "each node: up or since when not, version, shards, lag, fills with limits, clock, certificates; " +
			"whether one more may be lost, and why; as `deckle status --json` shows it"},
	{method: http.MethodGet, path: "/api/v1/analytics", role: access.Viewer, brands: filtered,
		old: "/api/analytics", class: front.Read, serve: (*handler).serveAnalytics,
		about: "figures by brand, device, country and subscription: of the day, and of all days in the state"},
	{method: http.MethodGet, path: "/api/v1/sessions/" + rest, role: access.Analyst, brands: filtered,
		verb: sessionRead, old: "/api/session/" + rest, class: front.Person, serve: (*handler).serveSessionPath,
		about: "one session as it stands; the id is all that follows, escaped as part of a URL"},
	{method: http.MethodGet, path: "/api/v1/sessions", role: access.Analyst, brands: filtered,
		verb: sessionRead, old: "/api/session", class: front.Person, serve: (*handler).serveSessionQuery,
		about: "the same by `?id=`, for an id such as `..`, which clients take for a path"},
	{method: http.MethodGet, path: "/api/v1/encryption", role: access.Operator, class: front.Read,
		serve: (*handler).serveEncryption, keys: true,
		about: "files and bytes of this node's data folder by key, as `deckle encryption status --json` shows them"},
	{method: http.MethodGet, path: "/api/v1/config", role: access.Operator, class: front.Read,
		serve: (*handler).serveConfig, config: true,
		about: "the configuration with which this node runs, secrets masked; what `deckle config diff` compares with"},
	{method: http.MethodGet, path: "/api/v1/support-bundle", role: access.Operator, verb: verbSupport,
		class: front.Heavy, serve: (*handler).serveSupport, config: true,
		about: "a zip with conditions, figures, configuration and log of this node; `deckle support-bundle` keeps it"},
	{method: http.MethodGet, path: "/api/v1/upgrade", role: access.Viewer, class: front.Read,
		serve: (*handler).serveUpgrade,
		about: "the level of the shards, what holds it down, whether an older version may come back; version and " +
			"level of each node"},
	{method: http.MethodPost, path: "/api/v1/upgrade/finalize", role: access.Operator, class: front.Verb,
		verb: VerbFinalize, serve: (*handler).serveFinalize, cluster: true,
		about: "`{}`: lets the level rise where `cluster.finalize` is manual; there is no way back"},
	{method: http.MethodPost, path: "/api/v1/cluster/transfer", role: access.Operator, class: front.Verb,
		verb: ClusterVerb(status.ClusterTransfer), serve: (*handler).serveTransfer, cluster: true,
		about: "`{\"shard\": 3, \"to\": \"b\"}`, or `\"all\": true`: hands shards to a node, which keeps them"},
	{method: http.MethodPost, path: "/api/v1/cluster/drain", role: access.Operator, class: front.Verb,
		verb: ClusterVerb(status.ClusterDrain), serve: (*handler).serveDrain, cluster: true,
		about: "`{\"node\": \"b\"}`: lets the node lead no shard that another one can lead, until it is restarted"},
	{method: http.MethodPost, path: "/api/v1/cluster/undrain", role: access.Operator, class: front.Verb,
		verb: ClusterVerb(status.ClusterUndrain), serve: (*handler).serveUndrain, cluster: true,
		about: "the same: lets it lead again"},
	{method: http.MethodPost, path: "/api/v1/partitions/skip", role: access.Operator, verb: verbSkip,
		old: "/api/partitions/skip", class: front.Verb, serve: (*handler).serveSkip, command: true,
		about: "gives up offsets of a partition"},
	{method: http.MethodPost, path: "/api/v1/partitions/resume", role: access.Operator,
		verb: verbResume, old: "/api/partitions/resume", class: front.Verb,
		serve: (*handler).serveResume, command: true,
		about: "tries a partition again"},
	{method: http.MethodPost, path: "/api/v1/partitions/add", role: access.Admin, verb: VerbAdd,
		class: front.Verb, serve: (*handler).serveAddPartitions, adds: true,
		about: "`{\"to\": …, \"from\": …, \"dry_run\": …}`: reads partitions that were added to the topic, from " +
			"their beginning"},
	{method: http.MethodPost, path: "/api/v1/tables/restore", role: access.Operator, class: front.Verb,
		verb: TableVerb(status.TableRestore), serve: (*handler).serveTableRestore, tables: true,
		about: "restores a Delta table to a former version, as `deckle delta restore` does"},
	{method: http.MethodPost, path: "/api/v1/tables/forget-gaps", role: access.Operator, class: front.Verb,
		verb: TableVerb(status.TableForget), serve: (*handler).serveTableForget, tables: true,
		about: "`{\"table\": \"sessions\"}`: accepts as gone the rows that RESTOREs of others took away"},
	{method: http.MethodGet, path: "/api/v1/letters", role: access.Analyst, class: front.Heavy, verb: verbLetters,
		serve: (*handler).serveLetters, letters: true,
		about: "dead letters without their values; `?from=` and `until=` (RFC 3339, time of rejection), `partition=` " +
			"(of the source), `reason=`, `state=` (open, replayed, discarded), `limit=` ≤ 10000, `place=` the `next` " +
			"of the page before"},
	{method: http.MethodGet, path: "/api/v1/letters/show", role: access.Analyst, class: front.Person,
		verb: verbLetter, serve: (*handler).serveLetter, letters: true,
		about: "`?key=`: one dead letter with what it shows; `place=` finds it at once"},
	{method: http.MethodPost, path: "/api/v1/letters/replay", role: access.Operator, class: front.Verb,
		verb: LetterVerb(status.LetterReplay), serve: (*handler).serveLetterReplay, letters: true,
		about: "`{\"letters\": [{\"key\": …, \"place\": …}], \"dry_run\": …, \"again\": …}`, up to 500: writes their " +
			"records into the source topic again, in one transaction"},
	{method: http.MethodPost, path: "/api/v1/letters/edit", role: access.Operator, class: front.Verb,
		verb: LetterVerb(status.LetterEdit), serve: (*handler).serveLetterEdit, letters: true,
		about: "the same of one letter, with the `value` to write in the place of its own"},
	{method: http.MethodPost, path: "/api/v1/letters/purge", role: access.Operator, class: front.Verb,
		verb: LetterVerb(status.LetterPurge), serve: (*handler).serveLetterPurge, letters: true,
		about: "the same, without `again`: deletes them from their topic"},
	{method: http.MethodGet, path: "/api/v1/tap", role: access.Analyst, class: front.Person, verb: verbTap,
		serve: (*handler).serveTap, taps: true,
		about: "lines of JSON while it is open: what passes a `?stage=` (source, decoded, session, row, letter) of " +
			"what this node leads; `session=`, `partition=`, `sample=N`, `for=` (100ms to 10m, 1m by default), and " +
			"`clear=true` (admin) for records as they came; four at a time, 200 lines a second"},
	{method: http.MethodGet, path: "/api/v1/suppressions", role: access.Admin, class: front.Read, verb: verbList,
		serve: (*handler).serveSuppressions, list: true,
		about: "the list of suppressed readers, by hashes, as this node has it; `?from=` a place, `?limit=` ≤ 1000"},
	{method: http.MethodPost, path: "/api/v1/suppressions/add", role: access.Admin, class: front.Verb,
		verb: ListVerb(status.ListAdd), serve: (*handler).serveListAdd, list: true,
		about: "`{\"user_ids\": […], \"session_ids\": […]}`, up to 800 texts: no record of theirs comes in any more"},
	{method: http.MethodPost, path: "/api/v1/suppressions/remove", role: access.Admin, class: front.Verb,
		verb: ListVerb(status.ListRemove), serve: (*handler).serveListRemove, list: true,
		about: "the same: lets them in again"},
	{method: http.MethodPost, path: "/api/v1/suppressions/check", role: access.Admin, class: front.Verb,
		verb: ListVerb(status.ListCheck), serve: (*handler).serveListCheck, list: true,
		about: "the same: since when, and in which shards, they are on the list"},
	{method: http.MethodPost, path: "/api/v1/suppressions/repair", role: access.Admin, class: front.Verb,
		verb: ListVerb(status.ListRepair), serve: (*handler).serveListRepair, list: true,
		about: "`{}`: gives every shard the list of shard 0"},
}

// NewHandler returns health, metrics, API and page, by the table of routes that stands in docs/operations.md. What is
// wrong with a request is told as RFC 9457 has it; the paths from before /api/v1 answer as they did, with "Deprecation:
// true".
//
// Nothing but commands changes anything, and they are taken from no browser. Where Options.Access asks nobody who they
// are, they are taken from this machine only, and everybody else must be kept off the address.
func NewHandler(src Source, opts Options) http.Handler {
	h := &handler{src: src, now: opts.Now, log: opts.Logger, command: opts.Command, gate: opts.Gate,
		access: opts.Access, audit: opts.Audit, open: opts.Open, insecure: opts.Insecure,
		suppressions: opts.Suppressions, tables: opts.Tables, letters: opts.Letters, tap: opts.Tap,
		add:    opts.AddPartitions,
		config: opts.Config, recent: opts.Recent, commits: opts.Commits, mover: opts.Mover}
	if h.now == nil {
		h.now = time.Now
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if h.gate == nil {
		h.gate = front.NewGate(front.GateOptions{Now: h.now})
	}
	if h.access == nil {
		h.access = access.New(access.Options{})
	}
	h.start = h.now()
	h.analytics.read = h.readAnalytics
	h.encryption.read = opts.Encryption
	if opts.Gatherer == nil {
		opts.Gatherer = prometheus.DefaultGatherer
	}
	h.metrics = promhttp.HandlerFor(opts.Gatherer, promhttp.HandlerOpts{})
	return newRouter(h)
}

// router answers requests by the table.
type router struct {
	h   *handler
	mux *http.ServeMux
	// free are the paths that take any text behind them. A mux would clean a path with dots or several slashes before
	// it looks at it, and send the client to another one; but an id may be any text.
	free map[string]http.Handler
}

func newRouter(h *handler) *router {
	t := &router{h: h, mux: http.NewServeMux(), free: map[string]http.Handler{}}
	paths := map[string]methods{}
	add := func(path string, r *route, old string) {
		of := paths[path]
		if of == nil {
			of = methods{}
			paths[path] = of
		}
		of[r.method] = answer{h, r, old}
	}
	for i := range routes {
		r := &routes[i]
		if r.command && h.command == nil || r.list && h.suppressions == nil || r.tables && h.tables == nil ||
			r.letters && h.letters == nil || r.taps && h.tap == nil || r.cluster && h.mover == nil ||
			r.keys && h.encryption.read == nil || r.config && h.config == nil ||
			r.login && !h.access.Required() || r.adds && h.add == nil {
			continue
		}
		add(r.path, r, "")
		if r.old != "" {
			add(r.old, r, r.path)
		}
	}
	for path, of := range paths {
		if prefix, ok := strings.CutSuffix(path, rest); ok {
			t.free[prefix] = of
			continue
		}
		if path == "/" {
			path = "/{$}"
		}
		t.mux.Handle(path, of)
	}
	t.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		callOf(r).old = isOld(r.URL.Path)
		h.fail(w, r, "not-found", "there is no such path; docs/operations.md has the table of all")
	})
	return t
}

// isOld says whether a path without a route belongs to what was there before /api/v1.
func isOld(path string) bool {
	return strings.HasPrefix(path, "/api/") && !strings.HasPrefix(path, "/api/v1/")
}

// ServeHTTP implements http.Handler.
func (t *router) ServeHTTP(to http.ResponseWriter, r *http.Request) {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	c := &call{id: hex.EncodeToString(id[:]), route: "other", principal: access.Principal{Who: unknown}}
	r = r.WithContext(context.WithValue(r.Context(), callKey{}, c))
	w, begin := &recorder{ResponseWriter: to, code: http.StatusOK}, t.h.now()
	defer func() { t.h.gate.Metrics().Answered(c.route, w.code, t.h.now().Sub(begin)) }()
	visit, r, leave, refused := t.h.gate.Enter(r)
	c.visit = visit
	if refused != nil {
		c.old = isOld(r.URL.Path)
		t.h.refuse(w, r, refused)
		return
	}
	defer leave()
	if w.base = visit.Base; w.base != "" && r.URL.Path == "" { // the addresses in the page are relative
		http.Redirect(w, r, "/", http.StatusPermanentRedirect)
		return
	}
	t.route(w, r, c)
}

// recorder remembers the status of an answer, and keeps redirects below the base path.
type recorder struct {
	http.ResponseWriter
	code int
	base string
}

// WriteHeader implements http.ResponseWriter.
func (w *recorder) WriteHeader(code int) {
	w.code = code
	if to := w.Header().Get("Location"); w.base != "" && strings.HasPrefix(to, "/") {
		w.Header().Set("Location", w.base+to)
	}
	w.ResponseWriter.WriteHeader(code)
}

// Unwrap is for http.ResponseController.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (t *router) route(w http.ResponseWriter, r *http.Request, c *call) {
	for prefix, of := range t.free {
		if text, ok := strings.CutPrefix(r.URL.Path, prefix); ok && text != "" {
			c.rest = text
			of.ServeHTTP(w, r)
			return
		}
	}
	t.mux.ServeHTTP(w, r)
}

// methods are the answers of one path.
type methods map[string]answer

// ServeHTTP implements http.Handler.
func (of methods) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if a, ok := of[method]; ok {
		a.ServeHTTP(w, r)
		return
	}
	var allowed []string
	var a answer
	for m, of := range of {
		allowed, a = append(allowed, m), of
		if m == http.MethodGet {
			allowed = append(allowed, http.MethodHead)
		}
	}
	slices.Sort(allowed)
	allow := strings.Join(allowed, ", ")
	w.Header().Set("Allow", allow)
	a.mark(w, r)
	a.h.fail(w, r, "method", fmt.Sprintf("%s is not taken here, only %s", r.Method, allow))
}

// answer is a route under one of its paths.
type answer struct {
	h         *handler
	route     *route
	successor string // the path to use instead; "" if this is it
}

// ServeHTTP implements http.Handler.
func (a answer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mark(w, r)
	c := callOf(r)
	c.route = a.route.path
	done, ok := a.h.admit(w, r, a.route)
	if !ok {
		return
	}
	defer done()
	a.route.serve(a.h, w, r)
}

// mark tells clients of a path from before /api/v1 which path has come in its place.
func (a answer) mark(w http.ResponseWriter, r *http.Request) {
	if a.successor == "" {
		return
	}
	c := callOf(r)
	c.old = true
	w.Header().Set("Deprecation", "true")
	w.Header().Set("Link", "<"+c.visit.Base+strings.TrimSuffix(a.successor, "/"+rest)+`>; rel="successor-version"`)
}
