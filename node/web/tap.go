package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"deckle/event"
	"deckle/node/access"
	"deckle/node/tap"
)

const (
	verbTap = "tap"
	// tapBeat is how often a tap says how much has passed, which is also when it finds that nobody reads any more.
	tapBeat = 2 * time.Second
	// tapPatience is how long a line may wait for whoever reads.
	tapPatience = 10 * time.Second
	tapUsual    = time.Minute // how long a tap is open if nobody says
)

// tapHead is the first line of a tap.
type tapHead struct {
	Node   string    `json:"node"`
	Stage  tap.Stage `json:"stage"`
	Leads  []uint32  `json:"leads"` // the shards of which something passes here
	Shards int       `json:"shards"`
	Until  time.Time `json:"until"`
}

// tapCount is the line that says how much has passed so far.
type tapCount struct {
	Seen int64  `json:"seen"`           // what the query asks for
	Left int64  `json:"left_out"`       // what there was no room or time for
	Ends string `json:"ends,omitempty"` // why the tap ends here
}

type tapQuery struct {
	tap.Query
	open time.Duration
}

func readTapQuery(text string) (q tapQuery, err error) {
	values, err := url.ParseQuery(text)
	if err != nil {
		return q, fmt.Errorf("the query cannot be read: %w", err)
	}
	q.open = tapUsual
	for name, list := range values {
		v := list[0]
		var err error
		switch name {
		case "stage":
			q.Stage = tap.Stage(v)
		case "session":
			if q.Session = v; v == "" || len(v) > event.MaxSessionID {
				err = fmt.Errorf("a session id has 1 to %d bytes", event.MaxSessionID)
			}
		case "partition":
			var n int64
			if n, err = strconv.ParseInt(v, 10, 32); err == nil && n < 0 {
				err = errors.New("partitions count from 0")
			}
			p := int32(n)
			q.Partition = &p
		case "sample":
			if q.Sample, err = strconv.Atoi(v); err == nil && q.Sample < 1 {
				err = errors.New("it is 1 or more")
			}
		case "for":
			if q.open, err = time.ParseDuration(v); err == nil && (q.open < tap.MinFor || q.open > tap.MaxFor) {
				err = fmt.Errorf("it is %s to %s", tap.MinFor, tap.MaxFor)
			}
		case "clear":
			q.Clear, err = strconv.ParseBool(v)
		default:
			err = errors.New("it is none of stage, session, partition, sample, for and clear")
		}
		if err != nil {
			return q, fmt.Errorf("%.50s=%.100s: %w", name, v, err)
		}
	}
	return q, nil
}

// serveTap serves GET /api/v1/tap.
func (h *handler) serveTap(w http.ResponseWriter, r *http.Request) {
	q, err := readTapQuery(r.URL.RawQuery)
	if err != nil {
		h.fail(w, r, "bad-request", err.Error())
		return
	}
	if p := &callOf(r).principal; q.Clear && p.Role < access.Admin {
		h.deny(w, r, "role",
			fmt.Sprintf("records as they came are for the role %s, and this is %s", access.Admin, p.Role))
		return
	}
	t, err := h.tap.Open(q.Query)
	switch {
	case errors.Is(err, tap.ErrQuery):
		h.fail(w, r, "bad-request", err.Error())
		return
	case err != nil:
		h.fail(w, r, "refused", err.Error())
		return
	}
	defer t.Close()
	l := h.line(r, verbTap, string(q.Stage), http.StatusOK, "ok", "")
	l.Args = map[string]any{"query": r.URL.RawQuery}
	if !h.record(w, r, l, true) {
		return
	}
	st := h.src.Status()
	head := tapHead{Node: st.Node, Stage: q.Stage, Leads: []uint32{}, Shards: len(st.Shards),
		Until: h.now().Add(q.open).UTC()}
	for i := range st.Shards {
		if s := &st.Shards[i]; s.IsLeader {
			head.Leads = append(head.Leads, s.Shard)
		}
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	h.pass(w, r, t, &head, q.open)
}

// pass writes the lines of a tap until its time is over, whoever reads goes away, or the node ends.
func (h *handler) pass(w http.ResponseWriter, r *http.Request, t *tap.Tap, head *tapHead, open time.Duration) {
	c := http.NewResponseController(w)
	write := func(line []byte) bool {
		// Where a deadline cannot be set, the server's own patience ends the tap.
		_ = c.SetWriteDeadline(h.now().Add(tapPatience))
		_, err := w.Write(append(line, '\n'))
		return err == nil
	}
	own := func(v any) bool {
		line, err := json.Marshal(map[string]any{"tap": v})
		return err == nil && write(line) && c.Flush() == nil
	}
	if !own(head) {
		return
	}
	beat, over := time.NewTicker(tapBeat), time.NewTimer(open)
	defer beat.Stop()
	defer over.Stop()
	count := func(ends string) bool {
		seen, left := t.Count()
		return own(tapCount{seen, left, ends})
	}
	for {
		select {
		case <-t.More():
			for _, line := range t.Take() {
				if !write(line) {
					return
				}
			}
			if c.Flush() != nil {
				return
			}
		case <-beat.C:
			if !count("") {
				return
			}
		case <-over.C:
			count("its time is over")
			return
		case <-t.Done():
			count("the node ends")
			return
		case <-r.Context().Done():
			return
		}
	}
}
