package web

import (
	"net/http"
	"slices"
	"time"

	"deckle/node/condition"
	"deckle/node/status"
)

// apiCluster is /api/v1/cluster: one look at the whole cluster, from any node. What is not known is null.
type apiCluster struct {
	Node      string    `json:"node"` // the one that was asked
	ClusterID string    `json:"cluster_id"`
	Version   string    `json:"version"` // of that node
	Now       time.Time `json:"now"`
	// Health is the gravest of what is known: well, degraded, failing or stopped.
	Health     string            `json:"health"`
	CanLoseOne *bool             `json:"can_lose_one"`
	Because    string            `json:"because"`
	Members    []apiNode         `json:"members"`
	Shards     apiLeaders        `json:"shards"`
	LagRecords *int64            `json:"lag_records"`
	LagSeconds *float64          `json:"lag_seconds"`
	LagUnknown int               `json:"lag_unknown_partitions"`
	Sinks      []apiSink         `json:"sinks"`
	Conditions []condition.Found `json:"conditions"`
}

// apiLeaders says how many shards there are, and which have no known leader.
type apiLeaders struct {
	Count      int      `json:"count"`
	Leaderless []uint32 `json:"without_leader"`
}

// apiNode is one node of the cluster. Figures are what it has told last, at told_at; null if it never did.
type apiNode struct {
	Node     string      `json:"node"`
	Answers  bool        `json:"answers"`
	UpToDate bool        `json:"up_to_date"`
	Since    *time.Time  `json:"since"`                // when it began to answer, or ceased to
	Clock    *float64    `json:"clock_offset_seconds"` // its clock minus that of the node that was asked
	ToldAt   *time.Time  `json:"told_at"`
	Figures  *apiFigures `json:"figures"`
}

type apiFigures struct {
	Version string    `json:"version"`
	Level   uint32    `json:"level"`       // the lowest of its shards, 0 while they do not run
	Knows   uint32    `json:"level_known"` // the highest that it may rise to
	Started time.Time `json:"started"`
	Leads   []uint32  `json:"shards_led"`
	Follows []uint32  `json:"shards_followed"`
	Drained bool      `json:"drained"`

	LagRecords *int64   `json:"lag_records"` // of the shards that it leads
	LagSeconds *float64 `json:"lag_seconds"`

	DiskBytes    int64  `json:"disk_bytes"`
	DiskLimit    *int64 `json:"disk_limit_bytes"`
	DiskFree     *int64 `json:"disk_free_bytes"`
	Memory       int64  `json:"memory_bytes"` // of the process
	Sessions     int64  `json:"session_memory_bytes"`
	SessionLimit *int64 `json:"session_memory_limit_bytes"`
	Files        *int64 `json:"open_files"`
	FileLimit    *int64 `json:"open_files_limit"`

	Certificates []apiCertificate `json:"certificates"` // the first to expire first
}

type apiCertificate struct {
	Key     string    `json:"key"`
	Expires time.Time `json:"expires"`
}

func (h *handler) serveCluster(w http.ResponseWriter, _ *http.Request) {
	st := h.src.Status()
	h.reply(w, http.StatusOK, newAPICluster(&st, h.now(), h.start))
}

func newAPICluster(st *status.Node, now, start time.Time) *apiCluster {
	s := newAPIStatus(st, now, start)
	out := &apiCluster{Node: s.Node, ClusterID: s.ClusterID, Version: s.Version, Now: s.Now, Health: "well",
		CanLoseOne: s.CanLoseOne, Because: st.Because, Members: []apiNode{},
		Shards:     apiLeaders{Count: len(s.Shards), Leaderless: []uint32{}},
		LagRecords: s.Totals.LagRecords, LagSeconds: s.Totals.LagSeconds, LagUnknown: s.Totals.LagUnknown,
		Sinks: s.Sinks, Conditions: s.Conditions}
	if len(s.Conditions) > 0 && s.Conditions[0].Severity > condition.Notice {
		out.Health = s.Conditions[0].Severity.String()
	}
	for i := range s.Shards {
		if s.Shards[i].Leader == "" {
			out.Shards.Leaderless = append(out.Shards.Leaderless, s.Shards[i].Shard)
		}
	}
	for i := range st.Members {
		out.Members = append(out.Members, newAPINode(&st.Members[i]))
	}
	return out
}

func newAPINode(m *status.Member) apiNode {
	out := apiNode{Node: m.Node, Answers: m.Answers, UpToDate: m.UpToDate, Since: stamp(m.Since), ToldAt: stamp(m.At)}
	if m.Clock != nil {
		out.Clock = new(m.Clock.Seconds())
	}
	f := m.Figures
	if f == nil {
		return out
	}
	limit := func(n int64) *int64 { // 0: there is none
		if n <= 0 {
			return nil
		}
		return &n
	}
	out.Figures = &apiFigures{Version: f.Version, Level: f.Level, Knows: f.Knows, Started: f.Started.UTC(),
		Leads: list(f.Leads), Follows: list(f.Follows), Drained: f.Drained, LagRecords: f.LagRecords,
		LagSeconds: f.LagSeconds, DiskBytes: f.Disk.Used, DiskLimit: limit(f.Disk.Limit), Memory: f.Memory,
		Sessions: f.Sessions.Used, SessionLimit: limit(f.Sessions.Limit), FileLimit: limit(f.Files.Limit),
		Certificates: []apiCertificate{}}
	if f.DiskFree >= 0 {
		out.Figures.DiskFree = &f.DiskFree
	}
	if f.Files.Limit > 0 {
		out.Figures.Files = &f.Files.Used
	}
	for _, c := range f.Certificates {
		out.Figures.Certificates = append(out.Figures.Certificates, apiCertificate{c.Key, c.NotAfter.UTC()})
	}
	slices.SortFunc(out.Figures.Certificates, func(a, b apiCertificate) int { return a.Expires.Compare(b.Expires) })
	return out
}

// stamp returns a time as the API shows it, nil for none.
func stamp(at time.Time) *time.Time {
	if at.IsZero() {
		return nil
	}
	return new(at.UTC())
}
