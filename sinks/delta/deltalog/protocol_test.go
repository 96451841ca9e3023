package deltalog

import (
	"context"
	"errors"
	"strings"
	"testing"

	"deckle/sim/testworld/objects"
	"deckle/sinks"
)

func TestCreateAndRefuse(t *testing.T) {
	mem := objects.NewMem(nil)
	l := open(t, writerOptions(mem))
	if s := snapshot(l); s.Version != 0 || s.Protocol.MinReaderVersion != 1 || s.Protocol.MinWriterVersion != 2 ||
		s.Metadata.Configuration[ConfigClusterID] != "c1" || s.Metadata.Configuration[ConfigPipeline] != "p" {
		t.Fatalf("%+v", s)
	}
	again := open(t, writerOptions(mem))
	if s := snapshot(again); s.Version != 0 || s.Metadata.ID != snapshot(l).Metadata.ID {
		t.Fatalf("the second opening made another table: %+v", s)
	}
	meta := *snapshot(l).Metadata
	with := func(change func(m *Metadata, p *Protocol)) string {
		m, p := meta, Protocol{MinReaderVersion: 1, MinWriterVersion: 2}
		m.Configuration = map[string]string{ConfigClusterID: "c1", ConfigPipeline: "p"}
		change(&m, &p)
		b, err := encodeCommit(&CommitInfo{TxnID: "x"}, &p, &m, nil, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for name, commit := range map[string]string{
		"belongs to cluster \"other\"": with(func(m *Metadata, _ *Protocol) {
			m.Configuration[ConfigClusterID] = "other"
		}),
		"belongs to cluster \"\"": with(func(m *Metadata, _ *Protocol) {
			delete(m.Configuration, ConfigClusterID)
		}),
		"belongs to pipeline": with(func(m *Metadata, _ *Protocol) {
			m.Configuration[ConfigPipeline] = "q"
		}),
		"setTransactionRetentionDuration": with(func(m *Metadata, _ *Protocol) {
			m.Configuration[configTxnRetention] = "interval 1 day"
		}),
		"column w is not one": with(func(m *Metadata, _ *Protocol) {
			m.SchemaString = strings.Replace(SchemaString(append(testFields[:3:3], Field{Name: "w", Type: "long"})),
				`"w","type":"long","nullable":true`, `"w","type":"long","nullable":false`, 1)
		}),
		"has an expression that generates it": with(func(m *Metadata, p *Protocol) {
			p.MinWriterVersion = 4
			m.SchemaString = strings.Replace(m.SchemaString, "{}", `{"delta.generationExpression":"1"}`, 1)
		}),
		"has generated numbers": with(func(m *Metadata, p *Protocol) {
			p.MinWriterVersion = 6
			m.SchemaString = strings.Replace(m.SchemaString, "{}", `{"delta.identity.start":1}`, 1)
		}),
		"the constraint later, CHECK (length(k) > 3), is not understood": with(func(m *Metadata, p *Protocol) {
			p.MinWriterVersion = 3
			m.Configuration["delta.constraints.first"] = "k > 'a'"
			m.Configuration["delta.constraints.later"] = "length(k) > 3"
		}),
		"column d is missing": with(func(m *Metadata, _ *Protocol) { m.SchemaString = SchemaString(testFields[:2]) }),
		"column v has type": with(func(m *Metadata, _ *Protocol) {
			m.SchemaString = strings.Replace(m.SchemaString, "long", "integer", 1)
		}),
		"has an invariant": with(func(m *Metadata, _ *Protocol) {
			m.SchemaString = strings.Replace(m.SchemaString, "{}", `{"delta.invariants":"x"}`, 1)
		}),
		"partitioned by":     with(func(m *Metadata, _ *Protocol) { m.PartitionColumns = nil }),
		"minReaderVersion 4": with(func(_ *Metadata, p *Protocol) { p.MinReaderVersion = 4 }),
		"minWriterVersion 8": with(func(_ *Metadata, p *Protocol) { p.MinWriterVersion = 8 }),
		"reader feature \"soon\"": with(func(_ *Metadata, p *Protocol) {
			*p = Protocol{3, 7, []string{"soon"}, []string{"soon"}}
		}),
		"columnMapping.mode is \"name\"": with(func(m *Metadata, p *Protocol) {
			*p = Protocol{2, 5, nil, nil}
			m.Configuration[configMapping] = "name"
		}),
		"writer feature \"rowTracking\"": with(func(_ *Metadata, p *Protocol) {
			*p = Protocol{1, 7, nil, []string{"appendOnly", "rowTracking"}}
		}),
	} {
		other := objects.NewMem(nil)
		other.Overwrite("t/_delta_log/00000000000000000000.json", []byte(commit))
		_, err := Open(context.Background(), writerOptions(other))
		var stop *sinks.StopError
		if !errors.As(err, &stop) || !strings.Contains(err.Error(), name) || stop.Hint == "" {
			t.Errorf("%s: %v", name, err)
		}
		// A writer that is already running finds the same at its next commit: it writes nothing more.
		third := objects.NewMem(nil)
		running := open(t, writerOptions(third))
		third.Overwrite("t/_delta_log/00000000000000000001.json", []byte(commit))
		for range 2 {
			err = running.Submit(context.Background(),
				&Change{Parts: on(running, "a", 1), Last: true, Adds: []Add{add("f", Origin{})}})
			if !errors.As(err, &stop) {
				t.Errorf("%s, while running: %v", name, err)
			}
		}
		if n := len(third.Keys("t/")) - len(third.Keys(running.checksumKey(0))); n != 2 {
			t.Errorf("%s, while running: %d objects", name, n)
		}
		// Once it is undone the same writer goes on, without being opened again.
		third.Overwrite("t/_delta_log/00000000000000000002.json", []byte(with(func(*Metadata, *Protocol) {})))
		if err := running.Refresh(context.Background()); err != nil {
			t.Errorf("%s, undone: %v", name, err)
		}
		if err := running.Submit(context.Background(),
			&Change{Parts: on(running, "a", 1), Last: true, Adds: []Add{add("f", Origin{})}}); err != nil {
			t.Errorf("%s, undone: %v", name, err)
		}
	}
}
