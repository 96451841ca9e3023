package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"deckle/node/status"
	"deckle/node/web"
	"deckle/state"
)

// standing is a node whose shards stand as they are given.
type standing []status.Shard

func (s standing) Status() status.Node            { return status.Node{Node: "a", Shards: s} }
func (s standing) Store(shard uint32) web.Replica { return nil }

// Every partition is shown with where it stands and whether the clock of its shard waits for it; what is not known is
// no number.
func TestOffsets(t *testing.T) {
	of := func(n int64) *int64 { return &n }
	lag := func(p int32, records, held int64) status.PartitionLag {
		return status.PartitionLag{Partition: p, Records: of(records), OpenTransaction: of(held)}
	}
	unread := lag(12, 7, 0)
	unread.Unread = true
	at := int64(1_796_000_000)
	h := web.NewHandler(standing{
		{Shard: 0, Leader: "a", IsLeader: true,
			State: state.View{Clock: at, Partitions: []state.PartitionStatus{
				{Partition: 0, Next: 40, Watermark: at}, {Partition: 2, Next: 50, Watermark: at + 60},
				{Partition: 4, Next: 60, Watermark: at - 60, Idle: true},
				{Partition: 6, Next: 70, Watermark: at - 60, Out: true}, {Partition: 8, Next: 80, Watermark: at}}},
			Lag: status.Lag{Records: of(15), Partitions: []status.PartitionLag{lag(0, 5, 3), lag(2, 0, 0), lag(4, 0, 0),
				lag(6, 2, 0), lag(8, 1, 0), unread}}},
		{Shard: 1, Leader: "b", State: state.View{Partitions: []state.PartitionStatus{{Partition: 1, Next: 9}}}},
	}, web.Options{Gatherer: prometheus.NewRegistry()})
	s := httptest.NewServer(http.HandlerFunc(h.ServeHTTP))
	t.Cleanup(s.Close)
	address := strings.TrimPrefix(s.URL, "http://")
	code, stdout, stderr := runCommand("offsets", "--address", address)
	var lines []string
	for line := range strings.Lines(stdout) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	for _, want := range []string{"0 0 40 45+ 5 2026-11-30T00:53:20Z holds", "0 2 50 50 0 2026-11-30T00:54:20Z -",
		"0 4 60 60 0 2026-11-30T00:52:20Z idle", "0 6 70 72 2 2026-11-30T00:52:20Z left out",
		"0 8 80 81 1 2026-11-30T00:53:20Z holds", "0 12 ? ? 7 ? unread", "1 1 9 ? ? ? holds",
		"0 a 2026-11-30T00:53:20Z 15", "1 b ? ?", "shard 1: node b leads the shard and has not told its lag yet: ask " +
			"/api/v1/status of that node"} {
		found := false
		for _, l := range lines {
			found = found || l == want
		}
		if !found {
			t.Errorf("no line %q", want)
		}
	}
	if code != 0 || stderr != "" || t.Failed() {
		t.Errorf("%d\n%s%s", code, stdout, stderr)
	}
	code, stdout, _ = runCommand("offsets", "--address", address, "--json")
	var got []shardOffsets
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != 0 || len(got) != 2 ||
		*got[0].Partitions[0].End != 45 || !got[0].Partitions[0].Holds || got[1].Partitions[0].End != nil {
		t.Errorf("%d %v: %s", code, err, stdout)
	}
	s.Close()
	if code, _, _ := runCommand("offsets", "--address", address); code != 1 {
		t.Errorf("nobody answers: %d", code)
	}
}
