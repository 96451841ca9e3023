package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"deckle/node/status"
)

// What is not understood does nothing; what is done is what was asked, and its outcome is told.
func TestTableBodies(t *testing.T) {
	var asked []*status.TableRequest
	var fails error
	h := NewHandler(newFakeSource(), Options{Gatherer: prometheus.NewRegistry(), Gate: patientGate(),
		Now: func() time.Time { return testNow },
		Tables: func(_ context.Context, q *status.TableRequest) (*status.TableOutcome, error) {
			asked = append(asked, q)
			return &status.TableOutcome{Table: q.Table}, fails
		}})
	const restore, forget = "/api/v1/tables/restore", "/api/v1/tables/forget-gaps"
	for body, path := range map[string]string{
		`{}`: restore,
		`{"table":"x","version":1,"rows":"gone"}`:                                         restore,
		`{"table":"events","rows":"gone"}`:                                                restore,
		`{"table":"events","version":1}`:                                                  restore,
		`{"table":"events","version":-1,"rows":"gone"}`:                                   restore,
		`{"table":"events","version":1,"rows":"keep"}`:                                    restore,
		`{"table":"events","version":1,"rows":"gone"} 1`:                                  restore,
		`{"table":"events","timestamp":"yesterday","rows":"gone"}`:                        restore,
		`{"table":"events","version":1,"rows":"gone","force":true}`:                       restore,
		`{"table":"events","timestamp":"0001-01-01T00:00:00Z","rows":"gone"}`:             restore,
		`{"table":"events","version":1,"timestamp":"2026-11-29T12:00:00Z","rows":"gone"}`: restore,
		`{"table":"events","version":2}`:                                                  forget,
		`{"rows":"gone"}`:                                                                 forget,
		`{"table":"events","dry_run":true}`:                                               forget,
	} {
		if w := ask(h, http.MethodPost, path, body); w.Code != http.StatusBadRequest || len(asked) > 0 {
			t.Errorf("%s %s: %d %s, %d asked", path, body, w.Code, w.Body, len(asked))
		}
	}
	at := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		path, body string
		err        error
		code       int
		want       status.TableRequest
	}{
		{restore, `{"table":"events","version":0,"rows":"gone","dry_run":true}`, nil, 200,
			status.TableRequest{Op: status.TableRestore, Table: "events", Rows: "gone", DryRun: true}},
		{restore, `{"table":"sessions","timestamp":"2026-11-29T12:00:00Z","rows":"again"}`, nil, 200,
			status.TableRequest{Op: status.TableRestore, Table: "sessions", Rows: "again", At: at}},
		{restore, `{"table":"sessions","version":7,"rows":"again"}`, fmt.Errorf("%w: no", status.ErrRefused), 409,
			status.TableRequest{Op: status.TableRestore, Table: "sessions", Rows: "again", Version: 7}},
		{forget, `{"table":"sessions"}`, errors.New("who knows"), 502,
			status.TableRequest{Op: status.TableForget, Table: "sessions"}},
	} {
		asked, fails = nil, c.err
		if w := ask(h, http.MethodPost, c.path, c.body); w.Code != c.code || len(asked) != 1 || *asked[0] != c.want {
			t.Errorf("%s: %d %s, %+v", c.body, w.Code, w.Body, asked)
		}
	}
}
