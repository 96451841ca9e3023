package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// report is torture.json.
type report struct {
	Passed bool   `json:"passed"`
	Seed   uint64 `json:"seed"`
	Bug    string `json:"planted_bug,omitempty"`
	Kills  int    `json:"kills"`
	Rounds int    `json:"rounds"`
	Events int64  `json:"events"` // records acknowledged by Kafka

	Lost               int64 `json:"lost"`       // offsets of applied records that a sink does not have
	Duplicated         int64 `json:"duplicated"` // offsets that a sink has twice, or should not have
	MismatchedSessions int64 `json:"mismatched_sessions"`
	MismatchedRollups  int64 `json:"mismatched_rollups"`
	VerifyEqual        bool  `json:"verify_equal"`
	ReadersAgree       bool  `json:"readers_agree"`
	Violations         int   `json:"violations"` // what the readers saw meanwhile and may never see
	RecoveryMS         stat  `json:"recovery_ms"`
	RecoveryDeltaMS    stat  `json:"recovery_delta_events_ms"`
	RecoveryClickMS    stat  `json:"recovery_clickhouse_ms"`
	RecoverySessionsMS stat  `json:"recovery_delta_sessions_ms"` // a row needs the end of its session and 1 s of grace
	RecoveryAllMS      stat  `json:"recovery_all_killed_ms"`
	FollowMS           stat  `json:"follow_ms"` // start of a node that was killed → it has what the others had then
	RejoinMS           stat  `json:"rejoin_ms"` // the same with an empty folder, and ready
	Seconds            int64 `json:"seconds"`
	recovery, events   []time.Duration
	clickhouse, all    []time.Duration
	sessions           []time.Duration
	follow, rejoin     []time.Duration
	RoundsByKind       map[string]int `json:"rounds_by_kind"`
	Watched            watched        `json:"readers"`
	FirstViolations    []violation    `json:"first_violations"`
	Failures           []string       `json:"failures"`
	began              time.Time
}

// stat is a set of times.
type stat struct {
	P50 int64 `json:"p50"`
	Max int64 `json:"max"`
	N   int   `json:"n"`
}

// watched is how much the readers have seen.
type watched struct {
	EventVersions   int64 `json:"delta_events_versions"`
	SessionVersions int64 `json:"delta_sessions_versions"`
	Snapshots       int64 `json:"delta_snapshots_compared"`
	Looks           int64 `json:"clickhouse_looks"`
	AtRest          int64 `json:"clickhouse_shards_at_rest"` // compared exactly
	SlowestLookMS   int64 `json:"clickhouse_slowest_look_ms"`
	Failed          int64 `json:"failed_reads"` // while a service was down
}

func newReport(o options) *report {
	return &report{Seed: o.seed, Bug: o.bug, RoundsByKind: map[string]int{}, Failures: []string{}, FirstViolations: []violation{}, began: time.Now()}
}

// take counts a round.
func (r *report) take(kind string, res *result) {
	r.Rounds++
	r.RoundsByKind[kind]++
	r.Kills += res.kills
	if rec := res.recovery; rec != nil {
		r.recovery = append(r.recovery, rec.worst())
		r.events, r.clickhouse, r.sessions = append(r.events, rec.events), append(r.clickhouse, rec.clickhouse), append(r.sessions, rec.sessions)
	}
	if rec := res.all; rec != nil {
		r.all = append(r.all, rec.worst())
	}
	if res.follow > 0 {
		r.follow = append(r.follow, res.follow)
	}
	if res.rejoin > 0 {
		r.rejoin = append(r.rejoin, res.rejoin)
	}
}

func statOf(ds []time.Duration) stat {
	if len(ds) == 0 {
		return stat{}
	}
	ds = slices.Sorted(slices.Values(ds))
	return stat{P50: ds[(len(ds)-1)/2].Milliseconds(), Max: ds[len(ds)-1].Milliseconds(), N: len(ds)}
}

// wrong says what is not as it must be in the tables, "" if nothing.
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
	r.RecoveryMS, r.RecoveryDeltaMS, r.RecoveryClickMS = statOf(r.recovery), statOf(r.events), statOf(r.clickhouse)
	r.RecoverySessionsMS, r.RecoveryAllMS = statOf(r.sessions), statOf(r.all)
	r.FollowMS, r.RejoinMS = statOf(r.follow), statOf(r.rejoin)
	r.Seconds = int64(time.Since(r.began).Seconds())
	r.Passed = r.wrong() == "" && len(r.Failures) == 0 && (r.Kills >= kills || r.Bug != "")
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
	return os.WriteFile(path, b, 0o644)
}
