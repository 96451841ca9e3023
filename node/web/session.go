package web

import (
	"cmp"
	"net/http"
	"time"

	"deckle/event"
	"deckle/state"
)

// apiSession is /api/session/{id}: the columns of docs/schema.md.
type apiSession struct {
	SessionID        string           `json:"session_id"`
	Origin           string           `json:"origin"`
	Shard            uint32           `json:"shard"`
	UserID           uint64           `json:"user_id"`
	Brand            string           `json:"brand"`
	Country          string           `json:"country"`
	City             string           `json:"city"`
	Timezone         string           `json:"timezone"`
	DeviceType       string           `json:"device_type"`
	DeviceOS         string           `json:"device_os"`
	Browser          string           `json:"browser"`
	SubscriptionTier string           `json:"subscription_tier"`
	UserSegment      string           `json:"user_segment"`
	Referrer         string           `json:"referrer"`
	Start            time.Time        `json:"session_start"`
	End              time.Time        `json:"session_end"`
	DurationSec      int64            `json:"session_duration_sec"`
	Status           string           `json:"status"`
	Revision         uint32           `json:"revision"`
	SessionDate      string           `json:"session_date"`
	TotalEvents      uint32           `json:"total_events"`
	Counts           map[string]int64 `json:"events_by_type"`
	TimeOnPageSec    uint64           `json:"time_on_page_sec"`
	VideoWatchSec    uint64           `json:"video_watch_sec"`
	AdRevenueMicros  uint64           `json:"ad_revenue_micros"`
	MaxScrollDepth   uint8            `json:"max_scroll_depth"`
	Categories       rawJSON          `json:"categories_visited"`
	ArticleIDs       rawJSON          `json:"article_ids_visited"`
	ArticleTitles    rawJSON          `json:"article_titles_visited"`
	PageEvents       rawJSON          `json:"page_events"`
}

// rawJSON is a JSON text from the state, "" shown as [].
type rawJSON string

// MarshalJSON returns the text as it is.
func (r rawJSON) MarshalJSON() ([]byte, error) { return []byte(cmp.Or(string(r), "[]")), nil }

func (h *handler) serveSession(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if len(id) > 64 {
		h.reply(w, http.StatusBadRequest, problem{"a session id has at most 64 bytes"})
		return
	}
	st := h.src.Status()
	for i := range st.Shards {
		shard := st.Shards[i].Shard
		replica := h.src.Store(shard)
		if replica == nil {
			continue
		}
		row, ok, err := replica.Session(id)
		if err != nil {
			h.log.Error("session cannot be read", "shard", shard, "error", err)
			h.reply(w, http.StatusInternalServerError, problem{"the state cannot be read; the log says why"})
			return
		}
		if ok {
			h.reply(w, http.StatusOK, newAPISession(shard, row))
			return
		}
	}
	h.reply(w, http.StatusNotFound, problem{"no such session in the state (it may have ended longer ago than the retention)"})
}

func newAPISession(shard uint32, r *state.SessionRow) *apiSession {
	out := &apiSession{
		SessionID: r.SessionID, Origin: r.Origin, Shard: shard, UserID: r.UserID, Brand: r.Brand, Country: r.Country,
		City: r.City, Timezone: r.Timezone, DeviceType: r.DeviceType, DeviceOS: r.DeviceOS, Browser: r.Browser,
		SubscriptionTier: r.SubscriptionTier, UserSegment: r.UserSegment, Referrer: r.Referrer,
		Start: time.Unix(r.Start, 0).UTC(), End: time.Unix(r.End, 0).UTC(), DurationSec: r.End - r.Start,
		Status: r.Status.String(), Revision: r.Revision, SessionDate: day(r.SessionDate), TotalEvents: r.TotalEvents,
		Counts: map[string]int64{}, TimeOnPageSec: r.TimeOnPageSec, VideoWatchSec: r.VideoWatchSec,
		AdRevenueMicros: r.AdRevenueMicros, MaxScrollDepth: r.MaxScrollDepth, Categories: rawJSON(r.Categories),
		ArticleIDs: rawJSON(r.ArticleIDs), ArticleTitles: rawJSON(r.ArticleTitles), PageEvents: rawJSON(r.PageEvents),
	}
	for t := event.ArticleView; t <= event.Navigation; t++ {
		if n := r.Counts[t]; n > 0 {
			out.Counts[t.String()] = int64(n)
		}
	}
	return out
}
