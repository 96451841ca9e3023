package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"deckle/sim/history"
)

// report is torture.json.
type report struct {
	Passed bool   `json:"passed"`
	Seed   uint64 `json:"seed"`
	Bug    string `json:"planted_bug,omitempty"`
	// Vectors says that revisions hid rows by deletion vectors.
	Vectors bool `json:"deletion_vectors"`
	Kills   int  `json:"kills"`
	Rounds  int  `json:"rounds"`
	// KilledCompactions are the jobs of compaction of which a node was killed, at one of the failpoints there.
	KilledCompactions int   `json:"delta_compactions_killed"`
	Events            int64 `json:"events"` // records acknowledged by Kafka

	Lost               int64 `json:"lost"`       // offsets of applied records that are missing in a sink
	Duplicated         int64 `json:"duplicated"` // offsets that are twice in a sink, or should not be there
	MismatchedSessions int64 `json:"mismatched_sessions"`
	MismatchedRollups  int64 `json:"mismatched_rollups"`
	VerifyEqual        bool  `json:"verify_equal"`
	ReadersAgree       bool  `json:"readers_agree"`
	Violations         int   `json:"violations"` // states that a reader saw and that none may see

	Recovery         stat `json:"recovery_ms"` // of a leader's SIGKILL: the slower sink, the slowest of its shards
	RecoveryDelta    stat `json:"recovery_delta_events_ms"`
	RecoveryClick    stat `json:"recovery_clickhouse_ms"`
	RecoverySessions stat `json:"recovery_delta_sessions_ms"` // a row needs the end of its session and 1 s of grace
	RecoveryAll      stat `json:"recovery_all_killed_ms"`
	Visible          stat `json:"visible_without_fault_ms"` // the same without any fault, as a comparison
	Follow           stat `json:"follow_ms"`                // from a node's start until it has what the others had
	Rejoin           stat `json:"rejoin_ms"`                // the same with an empty folder, until it is ready

	Seconds         int64               `json:"seconds"`
	DataIn          string              `json:"data_in"` // memory or disk
	RoundsByKind    map[string]int      `json:"rounds_by_kind"`
	Watched         watched             `json:"readers"`
	FirstViolations []history.Violation `json:"first_violations"`
	Failures        []string            `json:"failures"`
	Unchecked       []string            `json:"unchecked"` // what could not be compared, and why

	began time.Time
	times struct{ worst, events, clickhouse, sessions, all, calm, follow, rejoin []time.Duration }
}

// stat sums up a set of times, in milliseconds.
type stat struct {
	P50 int64 `json:"p50"`
	Max int64 `json:"max"`
	N   int   `json:"n"`
}

// watched is how many states the readers have seen.
type watched struct {
	EventVersions   int64 `json:"delta_events_versions"`
	SessionVersions int64 `json:"delta_sessions_versions"`
	Snapshots       int64 `json:"delta_snapshots_compared"`
	Compactions     int64 `json:"delta_compactions"` // jobs that have committed
	Hiding          int64 `json:"delta_hiding"`      // versions that hide rows by deletion vectors
	Looks           int64 `json:"clickhouse_looks"`
	FullLooks       int64 `json:"clickhouse_full_looks"`
	AtRest          int64 `json:"clickhouse_shards_at_rest"` // compared exactly
	SlowestLookMS   int64 `json:"clickhouse_slowest_look_ms"`
	Failed          int64 `json:"failed_reads"` // while a service was down
}

func newReport(o options) *report {
	return &report{
		Seed: o.seed, Bug: o.bug, Vectors: o.vectors, RoundsByKind: map[string]int{},
		Failures: []string{}, Unchecked: []string{},
		FirstViolations: []history.Violation{}, began: time.Now(),
	}
}

// compactionPoints is how the names of compaction's failpoints begin.
const compactionPoints = "deltaCompact"

// vectorPoints is how the names of those begin that are reached only where revisions hide rows by deletion vectors.
const vectorPoints = "deltaVectors"

// verbPoints is how the names of those begin that only somebody's decision about dead letters reaches. Nobody decides
// here: package node/letters kills a node at each of its requests.
const verbPoints = "letters"

// add counts a round.
func (r *report) add(kind string, res *result) {
	r.Rounds++
	r.RoundsByKind[kind]++
	r.Kills += res.kills
	if strings.HasPrefix(kind, "kill at "+compactionPoints) {
		r.KilledCompactions += res.kills
	}
	t := &r.times
	if rec := res.recovery; rec != nil {
		t.worst, t.events = append(t.worst, rec.worst()), append(t.events, rec.events)
		t.clickhouse, t.sessions = append(t.clickhouse, rec.clickhouse), append(t.sessions, rec.sessions)
	}
	if rec := res.all; rec != nil {
		t.all = append(t.all, rec.worst())
	}
	if rec := res.calm; rec != nil {
		t.calm = append(t.calm, rec.worst())
	}
	if res.follow > 0 {
		t.follow = append(t.follow, res.follow)
	}
	if res.rejoin > 0 {
		t.rejoin = append(t.rejoin, res.rejoin)
	}
}

func statOf(ds []time.Duration) stat {
	if len(ds) == 0 {
		return stat{}
	}
	ds = slices.Sorted(slices.Values(ds))
	return stat{P50: ds[(len(ds)-1)/2].Milliseconds(), Max: ds[len(ds)-1].Milliseconds(), N: len(ds)}
}

// wrong says what is wrong with the tables, "" if nothing is.
func (r *report) wrong() string {
	var out []string
	add := func(n int64, what string) {
		if n > 0 {
			out = append(out, fmt.Sprintf("%d %s", n, what))
		}
	}
	add(r.Lost, "lost")
	add(r.Duplicated, "duplicated")
	add(r.MismatchedSessions, "sessions mismatched")
	add(r.MismatchedRollups, "rollups mismatched")
	add(int64(r.Violations), "violations seen by a reader")
	if !r.VerifyEqual {
		out = append(out, "deckle verify does not agree")
	}
	if !r.ReadersAgree {
		out = append(out, "the independent readers do not agree")
	}
	return strings.Join(out, ", ")
}

func (r *report) complete(kills int) {
	t := &r.times
	r.Recovery, r.RecoveryDelta, r.RecoveryClick = statOf(t.worst), statOf(t.events), statOf(t.clickhouse)
	r.RecoverySessions, r.RecoveryAll, r.Visible = statOf(t.sessions), statOf(t.all), statOf(t.calm)
	r.Follow, r.Rejoin = statOf(t.follow), statOf(t.rejoin)
	r.Seconds = int64(time.Since(r.began).Seconds())
	r.Passed = r.wrong() == "" && len(r.Failures)+len(r.Unchecked) == 0 && (r.Kills >= kills || r.Bug != "")
}

func (r *report) write(path string, out io.Writer) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	b = append(b, '\n')
	if _, err := out.Write(b); err != nil {
		return err
	}
	return errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, b, 0o644))
}
