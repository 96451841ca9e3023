package clickhouse_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/ClickHouse/ch-go/proto"

	"deckle/schema/level"
	model "deckle/sim/testworld/clickhouse"
	"deckle/sinks"
	"deckle/sinks/clickhouse"
)

// TestLevelsOnTheModel: what holds on the engine holds on the model of it.
func TestLevelsOnTheModel(t *testing.T) {
	for name, test := range map[string]func(*testing.T, clickhouse.Options){"levels": clickhouse.Levels,
		"later levels": clickhouse.LaterLevels, "foreign column": clickhouse.ForeignColumn} {
		t.Run(name, func(t *testing.T) {
			srv := model.New(model.Options{})
			t.Cleanup(srv.Close)
			test(t, modelOptions(srv))
		})
	}
}

// TestMissingRightToAlter: without the right the plans of the level wait, and the error says which right is missing;
// those of the level before go on. Once it is granted, everything goes on by itself.
func TestMissingRightToAlter(t *testing.T) {
	srv := model.New(model.Options{})
	t.Cleanup(srv.Close)
	s := clickhouse.OpenEngine(t, clickhouse.Wider(modelOptions(srv)))
	m := clickhouse.NewModel(rand.New(rand.NewPCG(6, 1)), 2)
	if err := s.Write(t.Context(), m.Advance(0, 1)); err != nil {
		t.Fatal(err)
	}
	srv.SetHook(func(q model.Query) model.Fault {
		if strings.HasPrefix(q.Body, "ALTER") {
			return model.FailBefore(int(proto.ErrAccessDenied))
		}
		return model.Fault{}
	})
	p := clickhouse.AtLevel(m.Advance(0, 1), level.Real)
	err := s.Write(t.Context(), p)
	var stop *sinks.StopError
	if err == nil || errors.As(err, &stop) || !clickhouse.IsRetry(err) ||
		!strings.Contains(err.Error(), "GRANT ALTER ADD COLUMN ON `analytics`.* TO `default`") {
		t.Errorf("got %v", err)
	}
	if err := s.Write(t.Context(), m.Advance(1, 1)); err != nil {
		t.Errorf("a plan of the level before: %v", err)
	}
	// The right to change a comment is not needed: no row depends on it.
	refused := 0
	srv.SetHook(func(q model.Query) model.Fault {
		if strings.Contains(q.Body, "COMMENT COLUMN") {
			refused++
			return model.FailBefore(int(proto.ErrAccessDenied))
		}
		return model.Fault{}
	})
	if err := s.Write(t.Context(), p); err != nil || refused == 0 {
		t.Errorf("after the grant, but for comments (%d were tried): %v", refused, err)
	}
	srv.SetHook(nil)
	m.Rise()
	m.Compare(t, clickhouse.ReaderOf(s), "granted")
}
