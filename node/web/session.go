package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"deckle/event"
	"deckle/schema"
)

// apiSession is /api/v1/sessions/{id}: the columns of docs/schema.md in their order, and the shard that holds the
// session.
type apiSession struct {
	shard uint32
	row   *schema.SessionRow
}

// notShown are the columns that are of no use to a person who looks at one session: they repeat what the session's
// lists show, or say where its image comes from. The counts are shown together, as events_by_type.
var notShown = map[string]bool{
	"pages_visited_count": true, "unique_pages_count": true, "unique_categories_count": true, "batch_id": true,
	"created_at": true,
}

// MarshalJSON writes an object, with times in the form of RFC 3339 and with lists as JSON arrays.
func (s apiSession) MarshalJSON() ([]byte, error) {
	var b []byte
	add := func(name string, v any) error {
		text, err := json.Marshal(v)
		b = append(strconv.AppendQuote(append(b, ','), name), ':')
		b = append(b, text...)
		return err
	}
	err := add("shard", s.shard)
	for i := range schema.Sessions {
		c := &schema.Sessions[i]
		if c.Source.From != schema.EventCount && !notShown[c.Name] && err == nil {
			err = add(c.Name, c.JSON(s.row))
		}
	}
	counts := map[string]uint32{}
	for _, t := range event.Counted {
		if n := s.row.Counts[t]; n > 0 {
			counts[t.String()] = n
		}
	}
	if err == nil {
		err = add("events_by_type", counts)
	}
	if err != nil {
		return nil, err
	}
	b[0] = '{'
	return append(b, '}'), nil
}

// sessionRead is the verb of who has looked at which session.
const sessionRead = "session.read"

// serveSessionPath serves /api/v1/sessions/{id}.
func (h *handler) serveSessionPath(w http.ResponseWriter, r *http.Request) {
	h.serveSession(w, r, callOf(r).rest)
}

// serveSessionQuery serves /api/v1/sessions?id=.
func (h *handler) serveSessionQuery(w http.ResponseWriter, r *http.Request) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	switch ids := q["id"]; {
	case err != nil:
		h.fail(w, r, "bad-request", fmt.Sprintf("the query cannot be read: %v", err))
	case len(ids) != 1:
		h.fail(w, r, "bad-request", "one id is needed: "+r.URL.Path+"?id=")
	default:
		h.serveSession(w, r, ids[0])
	}
}

func (h *handler) serveSession(w http.ResponseWriter, r *http.Request, id string) {
	if id == "" || len(id) > event.MaxSessionID {
		h.fail(w, r, "bad-request", fmt.Sprintf("a session id has 1 to %d bytes", event.MaxSessionID))
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
			h.log.Error("session cannot be read", "request", callOf(r).id, "shard", shard, "error", err)
			h.fail(w, r, "internal", "the state cannot be read; the log says why")
			return
		}
		// A session of another brand is as one that is not there.
		if ok && callOf(r).principal.Sees(row.Brand) {
			if h.record(w, r, h.line(r, sessionRead, id, http.StatusOK, "ok", ""), false) {
				h.reply(w, http.StatusOK, apiSession{shard, row})
			}
			return
		}
	}
	if h.record(w, r, h.line(r, sessionRead, id, http.StatusNotFound, "ok", ""), false) {
		h.fail(w, r, "not-found", "no such session in the state (it may have ended longer ago than the retention)")
	}
}
