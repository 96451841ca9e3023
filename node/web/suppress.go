package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"deckle/node/status"
)

const (
	// maxListBody bounds the body of a verb of the list, in bytes: status.MaxListIDs ids, not all of them escaped.
	maxListBody = 512 << 10
	// maxListPage is the greatest number of readers in an answer.
	maxListPage = 1000

	verbList = "suppressions.list"
)

// ListVerb returns what an operation on the list of suppressed readers is in the audit log and in the table of routes.
func ListVerb(op status.ListOp) string { return "suppressions." + string(op) }

// listBody is the body of a verb of the list. A repair takes neither.
type listBody struct {
	Users    []string `json:"user_ids"`
	Sessions []string `json:"session_ids"`
}

func (h *handler) serveListAdd(w http.ResponseWriter, r *http.Request) {
	h.serveListVerb(w, r, status.ListAdd)
}

func (h *handler) serveListRemove(w http.ResponseWriter, r *http.Request) {
	h.serveListVerb(w, r, status.ListRemove)
}

func (h *handler) serveListCheck(w http.ResponseWriter, r *http.Request) {
	h.serveListVerb(w, r, status.ListCheck)
}

func (h *handler) serveListRepair(w http.ResponseWriter, r *http.Request) {
	h.serveListVerb(w, r, status.ListRepair)
}

func (h *handler) serveListVerb(w http.ResponseWriter, r *http.Request, op status.ListOp) {
	q, ok := accept(h, w, r, func() (*status.ListRequest, error) { return readList(w, r, op) })
	if !ok {
		return
	}
	q.Asker = h.asker(r)
	args := map[string]any{"ids": q.Len(), "hash": h.suppressions.Hash(q)}
	tell, ok := h.begin(w, r, ListVerb(op), "suppressed readers", args)
	if !ok {
		return
	}
	out, err := h.suppressions.Do(r.Context(), q)
	if err == nil {
		args["hash"], args["changed"], args["whole"] = out.Hash, out.Changed, out.Whole
	}
	h.conclude(w, r, tell, out, err)
}

// readList reads the body of a verb. No error of it shows an id: it comes into answers and logs.
func readList(w http.ResponseWriter, r *http.Request, op status.ListOp) (*status.ListRequest, error) {
	var b listBody
	if err := readBody(w, r, maxListBody, &b); err != nil {
		bad, ok := errors.AsType[*bodyError](err)
		if !ok {
			return nil, err
		}
		if _, large := errors.AsType[*http.MaxBytesError](bad.err); large {
			return nil, bad.err
		}
		return nil, errors.New(`the body is not what is expected: {"user_ids": ["…"], "session_ids": ["…"]}, of texts`)
	}
	q := &status.ListRequest{Op: op, Users: b.Users, Sessions: b.Sessions}
	switch n := q.Len(); {
	case op == status.ListRepair && n > 0:
		return nil, errors.New("a repair takes no ids")
	case op != status.ListRepair && n == 0:
		return nil, errors.New(`"user_ids" or "session_ids" is needed`)
	case n > status.MaxListIDs:
		return nil, fmt.Errorf("%d ids, at most %d are taken at once", n, status.MaxListIDs)
	}
	return q, nil
}

// serveSuppressions serves GET /api/v1/suppressions: ?from= is a place on the list, ?limit= how many to show.
func (h *handler) serveSuppressions(w http.ResponseWriter, r *http.Request) {
	from, n := 0, maxListPage
	q, err := url.ParseQuery(r.URL.RawQuery)
	for name, to := range map[string]*int{"from": &from, "limit": &n} {
		if text := q.Get(name); err == nil && text != "" {
			*to, err = strconv.Atoi(text)
		}
	}
	if err != nil || from < 0 || n < 1 || n > maxListPage {
		h.fail(w, r, "bad-request", fmt.Sprintf("from is a place on the list, from 0 on, and limit 1 to %d",
			maxListPage))
		return
	}
	page, err := h.suppressions.Page(from, n)
	if errors.Is(err, status.ErrRefused) {
		h.fail(w, r, "refused", err.Error())
		return
	}
	if err != nil {
		h.log.Error("the list of suppressed readers cannot be read", "request", callOf(r).id, "error", err)
		h.fail(w, r, "internal", "the state cannot be read; the log says why")
		return
	}
	l := h.line(r, verbList, "suppressed readers", http.StatusOK, "ok", "")
	l.Args = map[string]any{"from": from, "shown": len(page.Listings)}
	if h.record(w, r, l, false) {
		h.reply(w, http.StatusOK, page)
	}
}
