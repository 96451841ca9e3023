package web

import (
	"fmt"
	"slices"
	"time"

	"deckle"
	"deckle/event"
	"deckle/node/condition"
	"deckle/node/status"
	"deckle/schema/level"
	"deckle/state"
)

// apiStatus is /api/v1/status. Figures that only a shard's leader knows are null where this node does not lead it,
// except for the lag, which leaders tell the other nodes; what is not known is null. Ready, Reasons and Warnings are
// about this node, Conditions about the whole cluster.
type apiStatus struct {
	Node      string   `json:"node"`
	ClusterID string   `json:"cluster_id"`
	Ready     bool     `json:"ready"`
	Reasons   []string `json:"reasons"`
	Warnings  []string `json:"warnings"`
	// Conditions are what this node and the others that answer have found, the gravest first. What several have found
	// about one thing is there once.
	Conditions []condition.Found `json:"conditions"`
	Members    []apiMember       `json:"members"`      // /api/v1/cluster has their figures
	CanLoseOne *bool             `json:"can_lose_one"` // every shard goes on without any one member; null: unknown
	Version    string            `json:"version"`
	Now        time.Time         `json:"now"`
	UptimeSec  int64             `json:"uptime_sec"`
	Totals     apiTotals         `json:"totals"`
	Sinks      []apiSink         `json:"sinks"`
	Shards     []apiShard        `json:"shards"`
}

type apiMember struct {
	Node     string `json:"node"`
	Answers  bool   `json:"answers"`
	UpToDate bool   `json:"up_to_date"`
}

type apiTotals struct {
	Applied      int64            `json:"applied_events"` // events and session_ends that count
	Counted      int64            `json:"counted_events"` // the same without session_ends
	Duplicates   int64            `json:"duplicates"`
	Nulls        int64            `json:"nulls"`
	DeadLetters  int64            `json:"dead_letters"`
	ByReason     map[string]int64 `json:"dead_letters_by_reason"`
	Excluded     int64            `json:"excluded"` // records that rules.exclude leaves out
	ByRule       map[string]int64 `json:"excluded_by_rule"`
	TypesSkipped int64            `json:"types_skipped"`      // records of unknown types that are left out
	Unconsented  int64            `json:"unconsented"`        // records without the consent that rules.consent asks for
	KafkaTimes   int64            `json:"kafka_times_false"`  // records whose Kafka timestamp cannot be true
	Zeroed       map[string]int64 `json:"values_zeroed"`      // values that are no number, by field
	Suppressed   int64            `json:"suppressed"`         // records of readers on the list of suppressed readers
	Listed       int64            `json:"suppressed_readers"` // how many are on that list, in shard 0
	LiveSessions int64            `json:"live_sessions"`
	OpenSessions int64            `json:"open_sessions"`
	MemoryBytes  int64            `json:"session_memory_bytes"`
	LagRecords   *int64           `json:"lag_records"` // sum over all shards, null if that of any is not known
	LagSeconds   *float64         `json:"lag_seconds"` // the greatest of all shards that have one
	LagUnknown   int              `json:"lag_unknown_partitions"`
	Held         *int64           `json:"open_transaction_records"` // beside LagRecords, and summed in the same way
	Leaders      map[string]int   `json:"leaders"`                  // node -> shards it leads
}

type apiSink struct {
	Sink   string   `json:"sink"`
	Behind uint64   `json:"epochs_behind"` // of the shard that is furthest behind
	P50    *float64 `json:"visible_p50_ms"`
	P99    *float64 `json:"visible_p99_ms"` // of the worst shard
	Max    *float64 `json:"visible_max_ms"`
	Count  int64    `json:"count"`
}

type apiShard struct {
	Shard        uint32              `json:"shard"`
	Leader       string              `json:"leader"`
	IsLeader     bool                `json:"is_leader"`
	Level        level.Level         `json:"level"` // of the shard's formats and tables
	Term         uint64              `json:"term"`
	Index        uint64              `json:"index"`
	Durable      uint64              `json:"durable_index"`
	OpenEpoch    uint64              `json:"open_epoch"`
	LastClosed   uint64              `json:"last_closed_epoch"`
	Acked        map[string]uint64   `json:"acked_epochs"`
	Clock        *time.Time          `json:"clock"` // event time; null while unset
	Applied      int64               `json:"applied_events"`
	OpenSessions int64               `json:"open_sessions"`
	LiveSessions int64               `json:"live_sessions"`
	DirtyBytes   int64               `json:"dirty_bytes"`
	LagRecords   *int64              `json:"lag_records"`
	LagSeconds   *float64            `json:"lag_seconds"`
	LagUnknown   int                 `json:"lag_unknown_partitions"`
	Held         *int64              `json:"open_transaction_records"`
	LagFrom      string              `json:"lag_from,omitempty"` // the node that measures it
	LagNote      string              `json:"lag_note,omitempty"` // why it is not known here, and where to ask
	Paused       string              `json:"paused,omitempty"`
	Ahead        []int32             `json:"ahead_partitions,omitempty"` // not read until the others have caught up
	Stopped      map[string]string   `json:"stopped,omitempty"`
	Visible      map[string]apiDelay `json:"visible,omitempty"`
	Partitions   []apiPartition      `json:"partitions"`
	Listed       int64               `json:"suppressed_readers"`     // on the shard's list
	PrivacyKeys  []event.KeyID       `json:"privacy_keys,omitempty"` // that are needed; a file with another may go
	Keys         apiKeys             `json:"keys"`
}

// apiKeys says how far the keys of records keep sessions together, as the shard sees it.
type apiKeys struct {
	Compared   int64          `json:"compared"`        // records that followed another one of their session
	Other      int64          `json:"other_key"`       // those under another key than the first one
	Logins     int64          `json:"to_or_from_user"` // of those, where one of the two keys is the user id
	Partitions int64          `json:"other_partition"` // those under the same key, in another partition
	Example    *apiKeyExample `json:"example,omitempty"`
}

type apiKeyExample struct {
	SessionID string `json:"session_id"`
	First     string `json:"first"` // "partition/offset" of the session's first record
	FirstKey  string `json:"first_key"`
	Other     string `json:"other"`
	OtherKey  string `json:"other_key"`
}

func newAPIKeys(c *state.KeyCounts) apiKeys {
	out := apiKeys{Compared: c.Records, Other: c.Keys, Logins: c.Logins, Partitions: c.Partitions}
	if e := c.Example; e != nil {
		out.Example = &apiKeyExample{SessionID: e.SessionID, First: e.First.Text(), FirstKey: e.FirstKey.String(),
			Other: e.Other.Text(), OtherKey: e.Under.String()}
	}
	return out
}

type apiDelay struct {
	P50   float64 `json:"p50_ms"`
	P99   float64 `json:"p99_ms"`
	Max   float64 `json:"max_ms"`
	Count int64   `json:"count"`
}

type apiPartition struct {
	Partition int32  `json:"partition"`
	Next      *int64 `json:"next_offset"` // null for one that nobody reads
	Idle      bool   `json:"idle"`
	Unread    bool   `json:"unread,omitempty"`
	// Clock is how far the partition's event time has come, null if it has none. The shard's clock waits for the
	// partitions that hold it: of those that are neither idle nor left out, those that are furthest behind.
	Clock      *time.Time `json:"clock"`
	LeftOut    bool       `json:"left_out,omitempty"`
	HoldsClock bool       `json:"holds_clock,omitempty"`
	Lag        *int64     `json:"lag_records"`
	Held       *int64     `json:"open_transaction_records"`
	// GapCount and Skipped are the ranges that operators have given up, and the offsets in them; Gaps are the latest
	// 100.
	GapCount int64    `json:"gap_count"`
	Skipped  int64    `json:"skipped_offsets"`
	Gaps     []apiGap `json:"gaps,omitempty"`
	// The same of raw events alone: read, and not in table events.
	EventsGapCount int64    `json:"events_gap_count"`
	EventsSkipped  int64    `json:"events_skipped_offsets"`
	EventsGaps     []apiGap `json:"events_gaps,omitempty"`
}

type apiGap struct {
	From   int64     `json:"from"`
	To     int64     `json:"to"`
	At     time.Time `json:"at"`
	By     string    `json:"by"`
	Reason string    `json:"reason"`
}

func newAPIPartition(v *state.View, p *state.PartitionStatus) apiPartition {
	g, e := v.Gaps[p.Partition], v.EventGaps[p.Partition]
	out := apiPartition{Partition: p.Partition, Next: &p.Next, Idle: p.Idle, LeftOut: p.Out, HoldsClock: holds(v, p),
		GapCount: g.Count, Skipped: g.Offsets,
		Gaps: apiGaps(g.Last), EventsGapCount: e.Count, EventsSkipped: e.Offsets, EventsGaps: apiGaps(e.Last)}
	if p.Watermark > 0 {
		clock := time.Unix(p.Watermark, 0).UTC()
		out.Clock = &clock
	}
	return out
}

// holds says whether the shard's clock waits for a partition: none that it waits for is further behind.
func holds(v *state.View, p *state.PartitionStatus) bool {
	return !p.Idle && !p.Out && !slices.ContainsFunc(v.Partitions, func(o state.PartitionStatus) bool {
		return !o.Idle && !o.Out && o.Watermark < p.Watermark
	})
}

func apiGaps(gaps []state.Gap) (out []apiGap) {
	for _, g := range gaps {
		out = append(out, apiGap{g.From, g.To, time.UnixMilli(g.At).UTC(), g.By, g.Reason})
	}
	return out
}

func newAPIStatus(st *status.Node, now, start time.Time) *apiStatus {
	out := &apiStatus{
		Node: st.Node, ClusterID: st.ClusterID, Ready: st.Ready, Reasons: list(st.Reasons),
		Warnings: list(warnings(st)),
		Version:  deckle.Build().Version, Now: now.UTC(), UptimeSec: int64(now.Sub(start).Seconds()),
		Shards: make([]apiShard, 0, len(st.Shards)),
	}
	t := &out.Totals
	out.Conditions = condition.Merge(st.Conditions, st.Others)
	for _, m := range st.Members {
		out.Members = append(out.Members, apiMember{m.Node, m.Answers, m.UpToDate})
	}
	out.Members, out.CanLoseOne = list(out.Members), st.CanLoseOne
	t.ByReason, t.Leaders = map[string]int64{}, map[string]int{}
	t.ByRule, t.Zeroed = map[string]int64{}, map[string]int64{}
	sinks := make([]*apiSink, state.NumSinks)
	for i := range st.Shards {
		s := &st.Shards[i]
		out.Shards = append(out.Shards, newAPIShard(s))
		t.add(s)
		for _, id := range s.State.Config.Sinks {
			if id >= state.NumSinks {
				continue
			}
			if sinks[id] == nil {
				sinks[id] = &apiSink{Sink: id.String()}
			}
			sinks[id].add(s, id)
		}
	}
	t.addLag(st.Shards)
	out.Sinks = []apiSink{}
	for _, s := range sinks {
		if s != nil {
			out.Sinks = append(out.Sinks, *s)
		}
	}
	return out
}

func (t *apiTotals) add(s *status.Shard) {
	v := &s.State
	t.Applied += v.Applied
	t.Counted += v.Counted
	t.Duplicates += v.Duplicates
	t.Nulls += v.Nulls
	for _, r := range event.Reasons() {
		if n := v.DeadLetters[r]; n > 0 {
			t.DeadLetters += n
			t.ByReason[r.String()] += n
		}
	}
	for rule, n := range v.RuleCounts.Excluded {
		t.Excluded += n
		t.ByRule[rule] += n
	}
	t.TypesSkipped += v.RuleCounts.Skipped
	t.Unconsented += v.RuleCounts.Unconsented
	t.Suppressed += v.RuleCounts.SuppressedUsers + v.RuleCounts.SuppressedSessions
	if s.Shard == 0 {
		t.Listed = v.Suppress.Count
	}
	t.KafkaTimes += v.RuleCounts.KafkaTimes
	for field, n := range v.RuleCounts.Zeroed {
		t.Zeroed[field] += n
	}
	t.LiveSessions += v.LiveSessions
	t.OpenSessions += v.OpenStatus
	t.MemoryBytes += v.MemoryBytes
	if s.Leader != "" {
		t.Leaders[s.Leader]++
	}
}

// addLag sums what the shards' leaders know; a sum with an unknown part is unknown.
func (t *apiTotals) addLag(shards []status.Shard) {
	if len(shards) == 0 {
		return
	}
	records, held := new(int64), new(int64)
	for i := range shards {
		l, _, _ := lagOf(&shards[i])
		records, held, t.LagUnknown = plus(records, l.Records), plus(held, l.OpenTransaction), t.LagUnknown+l.Unknown
		if l.Seconds != nil {
			t.LagSeconds = greatest(t.LagSeconds, *l.Seconds)
		}
	}
	t.LagRecords, t.Held = records, held
}

// lagOf is the lag of a shard as this node knows it, by its own measure or by what the leader has told. from is the
// node that measured it, "" if nobody has told; why says then where to ask.
func lagOf(s *status.Shard) (lag status.Lag, from, why string) {
	switch {
	case s.IsLeader:
		return s.Lag, s.Leader, ""
	case s.Told != nil:
		return *s.Told, s.Leader, ""
	}
	lag.Unknown = len(s.State.Partitions)
	if s.Leader == "" {
		return lag, "", "the shard has no known leader, and only a leader measures the lag"
	}
	return lag, "", fmt.Sprintf("node %s leads the shard and has not told its lag yet: ask /api/v1/status of that "+
		"node", s.Leader)
}

// plus adds what may be unknown.
func plus(a, b *int64) *int64 {
	if a == nil || b == nil {
		return nil
	}
	return new(*a + *b)
}

func (a *apiSink) add(s *status.Shard, id state.SinkID) {
	if p := s.State.Sinks[id]; s.State.LastClosed > p.Acked {
		a.Behind = max(a.Behind, s.State.LastClosed-p.Acked)
	}
	l, ok := s.Visible[a.Sink]
	if !ok || l.Count == 0 {
		return
	}
	a.P50, a.P99, a.Max = greatest(a.P50, l.P50), greatest(a.P99, l.P99), greatest(a.Max, l.Max)
	a.Count += l.Count
}

func newAPIShard(s *status.Shard) apiShard {
	v := &s.State
	out := apiShard{
		Shard: s.Shard, Leader: s.Leader, IsLeader: s.IsLeader, Level: v.Level, Term: s.Term, Index: s.Index,
		Durable: v.DurableIndex, OpenEpoch: v.OpenEpoch, LastClosed: v.LastClosed, Acked: map[string]uint64{},
		Applied:      v.Applied,
		OpenSessions: v.OpenStatus, LiveSessions: v.LiveSessions, DirtyBytes: v.DirtyBytes, Paused: s.Paused,
		Ahead:   s.Ahead,
		Stopped: s.Stopped, Visible: map[string]apiDelay{}, Partitions: []apiPartition{},
		Keys: newAPIKeys(&v.Keys), PrivacyKeys: v.KeyIDs, Listed: v.Suppress.Count,
	}
	if v.Clock > 0 {
		clock := time.Unix(v.Clock, 0).UTC()
		out.Clock = &clock
	}
	for _, id := range v.Config.Sinks {
		if id < state.NumSinks {
			out.Acked[id.String()] = v.Sinks[id].Acked
		}
	}
	lag, from, why := lagOf(s)
	out.LagRecords, out.LagSeconds, out.LagUnknown = lag.Records, lag.Seconds, lag.Unknown
	out.Held, out.LagFrom, out.LagNote = lag.OpenTransaction, from, why
	for sink, l := range s.Visible {
		out.Visible[sink] = apiDelay(l)
	}
	for i := range v.Partitions {
		out.Partitions = append(out.Partitions, newAPIPartition(v, &v.Partitions[i]))
	}
	for _, l := range lag.Partitions {
		i := slices.IndexFunc(out.Partitions, func(p apiPartition) bool { return p.Partition == l.Partition })
		if i < 0 {
			i = len(out.Partitions)
			out.Partitions = append(out.Partitions, apiPartition{Partition: l.Partition, Unread: l.Unread})
		}
		out.Partitions[i].Lag, out.Partitions[i].Held = l.Records, l.OpenTransaction
	}
	return out
}

func greatest(p *float64, x float64) *float64 {
	if p != nil {
		x = max(x, *p)
	}
	return &x
}
