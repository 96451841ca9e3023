package web

import (
	"cmp"
	"fmt"
	"math"
	"net/http"
	"slices"
	"sync"
	"time"

	"deckle/schema"
)

// Measures are figures summed over sessions.
type Measures struct {
	Sessions    int64   `json:"sessions"`
	Events      int64   `json:"events"`
	DurationSec int64   `json:"duration_sec"`
	Views       int64   `json:"article_views"`
	Plays       int64   `json:"video_plays"`
	Signups     int64   `json:"newsletter_signups"`
	AdClicks    int64   `json:"ad_clicks"`
	AvgDuration float64 `json:"avg_session_duration_sec"`
	AvgEvents   float64 `json:"avg_events_per_session"`
	Conversion  float64 `json:"conversion_rate"` // newsletter_signups / sessions
}

func (m *Measures) add(r *schema.RollupRow) {
	m.Sessions += r.Sessions
	m.Events += r.Events
	m.DurationSec += r.Duration
	m.Views += r.Views
	m.Plays += r.Plays
	m.Signups += r.Signups
	m.AdClicks += r.AdClicks
}

func (m *Measures) addMeasures(o *Measures) {
	m.add(&schema.RollupRow{
		Sessions: o.Sessions, Events: o.Events, Duration: o.DurationSec, Views: o.Views, Plays: o.Plays,
		Signups: o.Signups, AdClicks: o.AdClicks,
	})
}

func (m *Measures) averages() {
	if m.Sessions > 0 {
		n := float64(m.Sessions)
		m.AvgDuration, m.AvgEvents, m.Conversion = float64(m.DurationSec)/n, float64(m.Events)/n, float64(m.Signups)/n
	}
}

// Group holds the figures of one value of a dimension.
type Group struct {
	Key string `json:"key"` // "" where the field was empty
	Measures
}

// Figures are the totals of one period, and the totals by each dimension with the most sessions first. A dimension has
// at most groupLimit values; the rest is joined under the key "(other)".
type Figures struct {
	Total            Measures `json:"total"`
	Brands           []Group  `json:"brands"`
	Devices          []Group  `json:"devices"`
	OperatingSystems []Group  `json:"operating_systems"`
	Browsers         []Group  `json:"browsers"`
	Countries        []Group  `json:"countries"`
	Cities           []Group  `json:"cities"`
	Subscriptions    []Group  `json:"subscriptions"`
	Segments         []Group  `json:"segments"`

	every []Group // all brands, none joined
}

const groupLimit = 50

// Analytics is /api/v1/analytics: figures of every session in the state, open ones included, as this node's replicas
// have them at this moment.
type Analytics struct {
	Date  string  `json:"date"` // the UTC day of the shards' event clock (the wall clock's while that is unset)
	Today Figures `json:"today"`
	All   Figures `json:"all"` // over every day that the state still holds
	// MissingShards are the shards that have no replica here yet; their figures are not included.
	MissingShards []uint32 `json:"missing_shards"`
}

// cached keeps a value for a second, so that many readers cost only one pass over the state.
type cached[T any] struct {
	read func() (T, error)

	mu    sync.Mutex
	value T
	at    time.Time
}

func (c *cached[T]) get(now time.Time) (T, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if age := now.Sub(c.at); !c.at.IsZero() && age >= 0 && age < time.Second {
		return c.value, nil
	}
	v, err := c.read()
	if err != nil {
		return v, err
	}
	c.value, c.at = v, now
	return v, nil
}

func (h *handler) serveAnalytics(w http.ResponseWriter, r *http.Request) {
	a, err := h.analytics.get(h.now())
	if err != nil {
		h.log.Error("analytics cannot be read", "request", callOf(r).id, "error", err)
		h.fail(w, r, "internal", "the state cannot be read; the log says why")
		return
	}
	if p := &callOf(r).principal; p.Held() {
		a = a.of(p.Sees)
	}
	h.reply(w, http.StatusOK, a)
}

// of returns the figures of some brands: theirs and their total. No other dimension has the brand, so the others are
// null.
func (a *Analytics) of(sees func(brand string) bool) *Analytics {
	return &Analytics{Date: a.Date, Today: a.Today.of(sees), All: a.All.of(sees), MissingShards: a.MissingShards}
}

func (f *Figures) of(sees func(brand string) bool) Figures {
	out := Figures{Brands: []Group{}}
	for _, g := range f.every {
		if sees(g.Key) {
			out.Brands = append(out.Brands, g)
			out.Total.addMeasures(&g.Measures)
		}
	}
	out.Total.averages()
	return out
}

// tally sums the rollup rows of one period.
type tally struct {
	total  Measures
	groups [8]map[string]*Measures // in the order of Figures
}

func (t *tally) add(r *schema.RollupRow) {
	group := func(i, dim int) {
		if t.groups[i] == nil {
			t.groups[i] = map[string]*Measures{}
		}
		if dim >= len(r.Dims) {
			return
		}
		m := t.groups[i][r.Dims[dim]]
		if m == nil {
			m = new(Measures)
			t.groups[i][r.Dims[dim]] = m
		}
		m.add(r)
	}
	switch r.Table {
	case schema.RollupSummary:
		t.total.add(r)
	case schema.RollupBrand:
		group(0, 0)
	case schema.RollupDevice:
		group(1, 0)
		group(2, 1)
		group(3, 2)
	case schema.RollupGeographic:
		group(4, 0)
		group(5, 1)
	case schema.RollupSubscription:
		group(6, 0)
		group(7, 1)
	}
}

func (t *tally) figures() Figures {
	t.total.averages()
	lists := [8][]Group{}
	for i, m := range t.groups {
		lists[i] = topGroups(m, groupLimit)
	}
	return Figures{t.total, lists[0], lists[1], lists[2], lists[3], lists[4], lists[5], lists[6], lists[7],
		topGroups(t.groups[0], math.MaxInt)}
}

// topGroups returns the groups with the most sessions; those beyond the limit are joined.
func topGroups(m map[string]*Measures, limit int) []Group {
	out := []Group{}
	for key, v := range m {
		if *v != (Measures{}) { // a total that has gone back to zero is not shown
			out = append(out, Group{key, *v})
		}
	}
	slices.SortFunc(out, func(a, b Group) int {
		return cmp.Or(cmp.Compare(b.Sessions, a.Sessions), cmp.Compare(a.Key, b.Key))
	})
	if len(out) > limit {
		other := Group{Key: "(other)"}
		for i := range out[limit:] {
			other.addMeasures(&out[limit+i].Measures)
		}
		out = append(out[:limit], other)
	}
	for i := range out {
		out[i].averages()
	}
	return out
}

func (h *handler) readAnalytics() (*Analytics, error) {
	st := h.src.Status()
	var clock int64
	for i := range st.Shards {
		clock = max(clock, st.Shards[i].State.Clock)
	}
	if clock == 0 {
		clock = h.now().Unix()
	}
	today := int32(clock / 86400)
	out := &Analytics{Date: day(today), MissingShards: []uint32{}}
	var ofDay, ofAll tally
	for i := range st.Shards {
		replica := h.src.Store(st.Shards[i].Shard)
		if replica == nil {
			out.MissingShards = append(out.MissingShards, st.Shards[i].Shard)
			continue
		}
		err := replica.Rollups(func(r *schema.RollupRow) error {
			ofAll.add(r)
			if r.Date == today {
				ofDay.add(r)
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("rollups of shard %d: %w", st.Shards[i].Shard, err)
		}
	}
	out.Today, out.All = ofDay.figures(), ofAll.figures()
	return out, nil
}

func day(days int32) string { return time.Unix(int64(days)*86400, 0).UTC().Format(time.DateOnly) }
