package deltalog

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"deckle/sim/testworld/objects"
)

// A table is given deletion vectors once, by a commit of its own, with all that its protocol stood for; who takes the
// property or the feature away, or says no, is obeyed.
func TestGiveVectors(t *testing.T) {
	mem := objects.NewMem(nil)
	l := open(t, writerOptions(mem))
	give := func(want bool) (version int64) {
		t.Helper()
		got, err := l.GiveVectors(t.Context())
		if err != nil || got != want {
			t.Errorf("%t, %v", got, err)
		}
		s := snapshot(l)
		if s.Vectors() != want {
			t.Errorf("the table has them: %t", s.Vectors())
		}
		return s.Version
	}
	before := snapshot(l)
	v := give(true)
	s := snapshot(l)
	if v != before.Version+1 || give(true) != v || s.Metadata.ID != before.Metadata.ID ||
		s.Metadata.SchemaString != before.Metadata.SchemaString {
		t.Errorf("version %d, %+v", v, s.Metadata)
	}
	if p := s.Protocol; p.MinReaderVersion != 3 || p.MinWriterVersion != 7 ||
		fmt.Sprint(p.ReaderFeatures) != "[deletionVectors]" ||
		fmt.Sprint(p.WriterFeatures) != "[appendOnly deletionVectors invariants]" {
		t.Errorf("%+v", p)
	}
	if open(t, Options{Store: mem, Name: l.name()}) == nil {
		t.Error("a reader refuses it")
	}
	write := func(change func(m *Metadata, p *Protocol)) {
		t.Helper()
		s := snapshot(l)
		m, p := *s.Metadata, *s.Protocol
		m.Configuration = maps.Clone(s.Metadata.Configuration)
		change(&m, &p)
		body, err := encodeCommit(&CommitInfo{Operation: "SET", EngineInfo: "other"}, &p, &m, nil, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		mem.Overwrite(l.commitKey(s.Version+1), body)
		if err := l.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	write(func(m *Metadata, _ *Protocol) { m.Configuration[configVectors] = "false" })
	give(false)
	write(func(m *Metadata, _ *Protocol) { m.Configuration[configVectors] = "true" })
	give(true)
	write(func(m *Metadata, p *Protocol) { // DROP FEATURE
		delete(m.Configuration, configVectors)
		*p = Protocol{MinReaderVersion: 1, MinWriterVersion: 7, WriterFeatures: []string{"appendOnly", "invariants"}}
	})
	give(false)
	write(func(m *Metadata, p *Protocol) { // as if it had never been
		delete(m.Configuration, ConfigVectorsGiven)
		*p = Protocol{MinReaderVersion: 2, MinWriterVersion: 5}
	})
	give(true)
	s = snapshot(l)
	if fmt.Sprint(s.Protocol.ReaderFeatures) != "[columnMapping deletionVectors]" ||
		!slices.Contains(s.Protocol.WriterFeatures, "generatedColumns") {
		t.Errorf("%+v", s.Protocol)
	}
}

// Several writers give a table its deletion vectors at once: one commit does.
func TestVectorsByMany(t *testing.T) {
	mem := objects.NewMem(nil)
	var logs []*Log
	for range 3 {
		logs = append(logs, open(t, writerOptions(mem)))
	}
	mem.SetFaults(3, objects.Faults{Lost: 0.3, OwnTwice: 0.2, Late: 0.2})
	done := make(chan error)
	for _, l := range logs {
		go func() {
			for {
				if ok, err := l.GiveVectors(context.Background()); ok {
					done <- nil
					return
				} else if err == nil {
					done <- fmt.Errorf("the table is not given them")
					return
				}
			}
		}()
	}
	for range logs {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	mem.SetFaults(0, objects.Faults{})
	n := 0
	for _, key := range mem.Keys(logs[0].name() + "/_delta_log/") {
		data, err := mem.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(data), "SET TBLPROPERTIES") {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d commits give them", n)
	}
}
