package web

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"time"
)

// verbSupport is what a support bundle is in the audit log.
const verbSupport = "support.bundle"

func (h *handler) serveConfig(w http.ResponseWriter, _ *http.Request) {
	values, _ := h.config()
	h.reply(w, http.StatusOK, values)
}

// commitsPatience is how long a bundle waits for the store of the Delta tables, which may be what is wrong.
const commitsPatience = 10 * time.Second

// kept keeps an answer.
type kept struct {
	header http.Header
	body   bytes.Buffer
}

func (p *kept) Header() http.Header         { return p.header }
func (p *kept) WriteHeader(int)             {}
func (p *kept) Write(b []byte) (int, error) { return p.body.Write(b) }

// supportAbout is the first file of a support bundle.
const supportAbout = `A support bundle of one node of Deckle, made at %s.

version.json     the build
ready.json       whether this node is ready, and its conditions
cluster.json     each node as this one knows it, whether one more may be lost, conditions
status.json      shards, sinks, partitions, delays
config.yaml      what the node runs with; of a secret it says where it comes from
metrics.txt      all metrics, for Prometheus
process.json     memory and processors, as the Go runtime has them
goroutines.txt   what each goroutine is at; no values
commits.json     the newest commits of the Delta tables: sizes, transactions and operations
log.txt          the newest lines of the log, 5,000 and 4 MiB at most; empty if deckle run has not started the node

No events, no sessions, no letters and no secrets are in it. Names of hosts, topics, tables and nodes are.
`

// serveSupport answers with a zip of what helps others to say what is wrong with a node.
func (h *handler) serveSupport(w http.ResponseWriter, r *http.Request) {
	now, id := h.now(), h.src.Status().Node
	if !h.record(w, r, h.line(r, verbSupport, id, http.StatusOK, "read", ""), false) {
		return
	}
	var b bytes.Buffer
	if err := h.bundle(&b, r, now); err != nil {
		h.log.Error("a support bundle cannot be made", "request", callOf(r).id, "error", err)
		h.fail(w, r, "internal", "the bundle cannot be made; the log says why")
		return
	}
	name := fmt.Sprintf("deckle-%s-%s.zip", id, now.UTC().Format("20060102T150405Z"))
	w.Header().Set("Content-Type", "application/zip")
	w.Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", name))
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(b.Bytes())
}

// bundle writes the zip. What it takes from other routes is what they answer to whoever may have the bundle.
func (h *handler) bundle(to io.Writer, r *http.Request, now time.Time) error {
	plain := r.Clone(r.Context())
	plain.Header = http.Header{} // nothing is compressed twice
	answer := func(serve func(http.ResponseWriter, *http.Request)) []byte {
		p := &kept{header: http.Header{}}
		serve(p, plain)
		return p.body.Bytes()
	}
	_, yaml := h.config()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	process, err := json.MarshalIndent(map[string]any{"go": runtime.Version(), "os": runtime.GOOS,
		"arch": runtime.GOARCH, "processors": runtime.NumCPU(), "gomaxprocs": runtime.GOMAXPROCS(0),
		"goroutines": runtime.NumGoroutine(), "since": h.start.UTC(), "heap_bytes": memory.HeapAlloc,
		"heap_goal_bytes": memory.NextGC, "heap_idle_bytes": memory.HeapIdle, "stack_bytes": memory.StackInuse,
		"sys_bytes": memory.Sys, "collections": memory.NumGC, "pause_ns": memory.PauseTotalNs,
		"memory_limit_bytes": debug.SetMemoryLimit(-1)}, "", " ")
	if err != nil {
		return err
	}
	var goroutines bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&goroutines, 1); err != nil {
		return err
	}
	var log []byte
	if h.recent != nil {
		log = h.recent()
	}
	commits := []byte("null\n")
	if h.commits != nil {
		ctx, cancel := context.WithTimeout(r.Context(), commitsPatience)
		defer cancel()
		if commits, err = json.MarshalIndent(h.commits(ctx), "", " "); err != nil {
			return err
		}
	}
	z := zip.NewWriter(to)
	for _, f := range []struct {
		name string
		data []byte
	}{
		{"about.txt", fmt.Appendf(nil, supportAbout, now.UTC().Format(time.RFC3339))},
		{"version.json", answer(h.serveVersion)}, {"ready.json", answer(h.serveReady)},
		{"cluster.json", answer(h.serveCluster)}, {"status.json", answer(h.serveStatus)},
		{"config.yaml", []byte(yaml)}, {"metrics.txt", answer(h.serveMetrics)}, {"process.json", process},
		{"goroutines.txt", goroutines.Bytes()}, {"commits.json", commits}, {"log.txt", log},
	} {
		in, err := z.CreateHeader(&zip.FileHeader{Name: f.name, Method: zip.Deflate, Modified: now.UTC()})
		if err == nil {
			_, err = in.Write(f.data)
		}
		if err != nil {
			return err
		}
	}
	return z.Close()
}
