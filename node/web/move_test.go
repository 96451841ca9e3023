package web

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"deckle/node/status"
)

// fakeMover remembers what is asked of it.
type fakeMover struct {
	moved   []status.TransferRequest
	drained []status.DrainRequest

	finalized int
	err       error
}

func (f *fakeMover) Transfer(_ context.Context, q *status.TransferRequest) (*status.TransferOutcome, error) {
	f.moved = append(f.moved, *q)
	return &status.TransferOutcome{To: q.To, Whole: true, Shards: []status.ShardMoved{}}, f.err
}

func (f *fakeMover) Drain(_ context.Context, q *status.DrainRequest) (*status.DrainOutcome, error) {
	f.drained = append(f.drained, *q)
	return &status.DrainOutcome{Node: q.Node, Drained: !q.Off}, f.err
}

func (f *fakeMover) Finalize(context.Context, *status.Asker) (*status.FinalizeOutcome, error) {
	f.finalized++
	return &status.FinalizeOutcome{Whole: true, Shards: []status.ShardRisen{}}, f.err
}

// An operator moves leaderships, and nobody below; what is not understood does nothing; a refusal is 409 with its
// reason; the audit log has the attempt and what came of it.
func TestMovingLeaderships(t *testing.T) {
	g := newGuarded(t)
	const transfer, drain, undrain = "/api/v1/cluster/transfer", "/api/v1/cluster/drain", "/api/v1/cluster/undrain"
	for _, x := range []struct{ path, body string }{
		{transfer, `{"to":"b"}`}, {transfer, `{"shard":1,"all":true,"to":"b"}`}, {transfer, `{"shard":1}`},
		{transfer, `{"shard":-1,"to":"b"}`}, {transfer, `{"all":false,"to":"b"}`}, {drain, `{}`}, {undrain, `{}`},
		{drain, `{"node":"b","force":true}`}, {drain, `{"node":"` + strings.Repeat("b", 256) + `"}`},
	} {
		if w := g.as("operator", http.MethodPost, x.path, x.body); w.Code != http.StatusBadRequest {
			t.Errorf("%s %s: %d %s", x.path, x.body, w.Code, w.Body)
		}
	}
	for _, path := range []string{transfer, drain, undrain} {
		if w := g.as("analyst", http.MethodPost, path, bodies[path]); w.Code != http.StatusForbidden {
			t.Errorf("an analyst, %s: %d %s", path, w.Code, w.Body)
		}
	}
	if len(g.mover.moved)+len(g.mover.drained) > 0 {
		t.Fatalf("done: %+v %+v", g.mover.moved, g.mover.drained)
	}
	before := g.count(t)
	for _, x := range []struct{ path, body string }{
		{transfer, `{"shard":0,"to":"b"}`}, {transfer, `{"all":true,"to":"c"}`}, {drain, `{"node":"b"}`},
		{undrain, `{"node":"b"}`},
	} {
		if w := g.as("operator", http.MethodPost, x.path, x.body); w.Code != http.StatusOK {
			t.Errorf("%s %s: %d %s", x.path, x.body, w.Code, w.Body)
		}
	}
	m, d := g.mover.moved, g.mover.drained
	if len(m) != 2 || *m[0].Shard != 0 || m[0].To != "b" || m[1].Shard != nil || m[1].To != "c" || len(d) != 2 ||
		d[0].Off || !d[1].Off || d[0].Node != "b" || d[0].Asker.Role != "operator" {
		t.Errorf("done: %+v %+v", m, d)
	}
	g.mover.err = fmt.Errorf("%w: no other node is up", status.ErrRefused)
	w := g.as("operator", http.MethodPost, drain, `{"node":"b"}`)
	if w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), "no other node is up") {
		t.Errorf("a refusal: %d %s", w.Code, w.Body)
	}
	var said []string
	for _, l := range g.lines(t)[before:] {
		said = append(said, fmt.Sprint(l.Verb, " ", l.Target, " ", l.Result))
	}
	want := "cluster.transfer node b begun, cluster.transfer node b ok, cluster.transfer node c begun, " +
		"cluster.transfer node c ok, cluster.drain node b begun, cluster.drain node b ok, " +
		"cluster.undrain node b begun, cluster.undrain node b ok, cluster.drain node b begun, " +
		"cluster.drain node b refused"
	if got := strings.Join(said, ", "); got != want {
		t.Errorf("audited %s\nwant %s", got, want)
	}
}
