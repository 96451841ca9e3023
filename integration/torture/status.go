package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"deckle/integration/services"
	"deckle/sim"
)

// status has the fields of a node's /api/v1/status that are read here.
type status struct {
	Ready   bool     `json:"ready"`
	Reasons []string `json:"reasons"`
	Shards  []struct {
		Shard    uint32            `json:"shard"`
		IsLeader bool              `json:"is_leader"`
		Term     uint64            `json:"term"`
		Index    uint64            `json:"index"`
		Acked    map[string]uint64 `json:"acked_epochs"`
		Stopped  map[string]string `json:"stopped"`
	} `json:"shards"`
}

// statuses asks every node that answers, by its number.
func (w *world) statuses(ctx context.Context) map[int]*status {
	out := map[int]*status{}
	for i, n := range w.Nodes {
		if n.PID() == 0 {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		var st status
		if err := n.Get(ctx, "/api/v1/status", &st); err == nil {
			out[i] = &st
		}
		cancel()
	}
	return out
}

// leaders returns the node that leads each shard; a leader of an old term does not count.
func leaders(sts map[int]*status) map[uint32]int {
	lead, term := map[uint32]int{}, map[uint32]uint64{}
	for i, st := range sts {
		for _, s := range st.Shards {
			if s.IsLeader && s.Term >= term[s.Shard] {
				lead[s.Shard], term[s.Shard] = i, s.Term
			}
		}
	}
	return lead
}

// awaitLeaders waits until every shard has a leader.
func (w *world) awaitLeaders(ctx context.Context) (map[uint32]int, error) {
	for {
		if lead := leaders(w.statuses(ctx)); len(lead) == shards {
			return lead, nil
		}
		if err := sim.Pause(ctx, 100*time.Millisecond); err != nil {
			return nil, fmt.Errorf("not every shard has a leader: %w", err)
		}
	}
}

// led returns the shards that a node leads, ascending.
func led(lead map[uint32]int, node int) []uint32 {
	var out []uint32
	for s, n := range lead {
		if n == node {
			out = append(out, s)
		}
	}
	slices.Sort(out)
	return out
}

// acked returns the greatest acknowledged epochs by sink and shard, and the parts that have stopped and wait for an
// operator.
func acked(sts map[int]*status) (epochs map[string]map[uint32]uint64, stopped []string) {
	epochs = map[string]map[uint32]uint64{}
	for i, st := range sts {
		for _, s := range st.Shards {
			for sink, epoch := range s.Acked {
				if epochs[sink] == nil {
					epochs[sink] = map[uint32]uint64{}
				}
				epochs[sink][s.Shard] = max(epochs[sink][s.Shard], epoch)
			}
			for part, why := range s.Stopped {
				stopped = append(stopped, fmt.Sprintf("node-%d, shard %d: %s stopped: %s", i+1, s.Shard, part, why))
			}
		}
	}
	return epochs, stopped
}

// sinks are those that must make progress after every round.
var sinks = []string{"events", "sessions", "clickhouse", "deadletter"}

// progress waits until every sink has acknowledged two more epochs of every shard: the first of them may have been
// under way before.
func (w *world) progress(ctx context.Context) error {
	from, _ := acked(w.statuses(ctx))
	for {
		sts := w.statuses(ctx)
		now, stopped := acked(sts)
		if len(stopped) > 0 {
			return fmt.Errorf("an operator is asked for: %s", strings.Join(stopped, "; "))
		}
		var behind []string
		for _, sink := range sinks {
			for s := range uint32(shards) {
				if now[sink][s] < from[sink][s]+2 {
					behind = append(behind, fmt.Sprintf("%s/%d %d→%d", sink, s, from[sink][s], now[sink][s]))
				}
			}
		}
		if len(behind) == 0 {
			return nil
		}
		if err := sim.Pause(ctx, 100*time.Millisecond); err != nil {
			why := []string{}
			for i, st := range sts {
				why = append(why, fmt.Sprintf("node-%d: %s", i+1, strings.Join(st.Reasons, "; ")))
			}
			slices.Sort(why)
			return fmt.Errorf("no progress: %v (%v): %w", behind, why, err)
		}
	}
}

// catchUp waits until a node has applied of every shard what the other nodes had applied when this was called.
func (w *world) catchUp(ctx context.Context, node int) error {
	want := map[uint32]uint64{}
	for {
		for i, st := range w.statuses(ctx) {
			for _, s := range st.Shards {
				if i != node {
					want[s.Shard] = max(want[s.Shard], s.Index)
				}
			}
		}
		if len(want) == shards {
			break
		}
		if err := sim.Pause(ctx, 50*time.Millisecond); err != nil { // the others are still starting
			return fmt.Errorf("the nodes other than node-%[2]d know only %[1]d shards: %[3]w", len(want), node+1, err)
		}
	}
	for {
		var st status
		behind := maps.Clone(want)
		if err := w.Nodes[node].Get(ctx, "/api/v1/status", &st); err == nil {
			for _, s := range st.Shards {
				if s.Index >= want[s.Shard] {
					delete(behind, s.Shard)
				}
			}
		}
		if len(behind) == 0 {
			return nil
		}
		if err := sim.Pause(ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("node-%d does not catch up: %d shards are behind %v: %w",
				node+1, len(behind), behind, err)
		}
	}
}

// metric returns a node's metric, summed over its labels.
func (w *world) metric(ctx context.Context, n *services.Node, name string) (sum float64, err error) {
	err = w.samples(ctx, n, name, func(_ string, v float64) { sum += v })
	return sum, err
}

// shardMetric returns a node's metric by shard. A shard that the node does not tell of is an error, so that a check
// which rests on the metric cannot fall silent.
func (w *world) shardMetric(ctx context.Context, n *services.Node, name string) (of [shards]float64, err error) {
	var found [shards]bool
	if err := w.samples(ctx, n, name, func(labels string, v float64) {
		for s := range of {
			if strings.Contains(labels, fmt.Sprintf(`shard="%d"`, s)) {
				of[s], found[s] = v, true
			}
		}
	}); err != nil {
		return of, err
	}
	if i := slices.Index(found[:], false); i >= 0 {
		return of, fmt.Errorf("%s has no metric %s of shard %d", n.Name, name, i)
	}
	return of, nil
}

// samples calls each with the labels (`{shard="0"}`, or none) and the value of every sample of a node's metric.
func (w *world) samples(
	ctx context.Context, n *services.Node, name string, each func(labels string, v float64),
) error {
	body, err := n.Read(ctx, "/metrics")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(body)) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if ok && (key == name || strings.HasPrefix(key, name+"{")) {
			f, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return fmt.Errorf("metric %s: %w", name, err)
			}
			each(strings.TrimPrefix(key, name), f)
		}
	}
	return nil
}

// request makes one HTTP request; an answer other than 2xx is an error.
func request(ctx context.Context, method, url, body string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(res.Body, 16<<20))
	if err != nil {
		return "", err
	}
	if res.StatusCode/100 != 2 {
		return "", fmt.Errorf("%s %s: %s: %s", method, url, res.Status, strings.TrimSpace(string(b)))
	}
	return string(b), nil
}

// arm switches a failpoint of a node on.
func (w *world) arm(ctx context.Context, node int, point, term string) error {
	_, err := request(ctx, http.MethodPut, "http://"+w.gofail[node]+"/"+point, term)
	return err
}

// disarm switches it off.
func (w *world) disarm(ctx context.Context, node int, point string) error {
	_, err := request(ctx, http.MethodDelete, "http://"+w.gofail[node]+"/"+point, "")
	return err
}

// hits returns how often it has been reached.
func (w *world) hits(ctx context.Context, node int, point string) (int, error) {
	body, err := request(ctx, http.MethodGet, "http://"+w.gofail[node]+"/"+point+"/count", "")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(body))
}
