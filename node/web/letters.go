package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"deckle/event"
	"deckle/node/status"
)

const (
	verbLetters = "letters.list"
	verbLetter  = "letters.show"
	// letterPatience is how long an answer may take: letters are read from Kafka.
	letterPatience = 2 * time.Minute
	// maxLettersBody bounds the body of a verb of letters, in bytes: status.MaxReview letters, or a value.
	maxLettersBody = 2 << 20
	// maxNamed is how many keys of letters a line of the audit log has.
	maxNamed = 20
)

// LetterVerb returns what an operation on letters is in the audit log and in the table of routes.
func LetterVerb(op status.LetterOp) string { return "letters." + string(op) }

// letterBody is the body of a verb of letters; again is none of a purge, and value is of an edit.
type letterBody struct {
	Letters []status.LetterRef `json:"letters"`
	Value   *string            `json:"value"`
	DryRun  bool               `json:"dry_run"`
	Again   bool               `json:"again"`
}

func (h *handler) serveLetterReplay(w http.ResponseWriter, r *http.Request) {
	h.serveLetterVerb(w, r, status.LetterReplay)
}

func (h *handler) serveLetterEdit(w http.ResponseWriter, r *http.Request) {
	h.serveLetterVerb(w, r, status.LetterEdit)
}

func (h *handler) serveLetterPurge(w http.ResponseWriter, r *http.Request) {
	h.serveLetterVerb(w, r, status.LetterPurge)
}

func (h *handler) serveLetterVerb(w http.ResponseWriter, r *http.Request, op status.LetterOp) {
	q, ok := accept(h, w, r, func() (*status.LetterRequest, error) { return readLetterVerb(w, r, op) })
	if !ok {
		return
	}
	q.Asker = h.asker(r)
	keys := []string{}
	for _, l := range q.Letters[:min(len(q.Letters), maxNamed)] {
		keys = append(keys, l.Key)
	}
	args := map[string]any{"letters": len(q.Letters), "keys": keys, "dry_run": q.DryRun, "again": q.Again}
	tell, ok := h.begin(w, r, LetterVerb(op), "letters", args)
	if !ok {
		return
	}
	h.waitForKafka(w)
	out, err := h.letters.Do(r.Context(), q)
	if err == nil {
		args["done"] = out.Done
	}
	h.conclude(w, r, tell, out, err)
}

func readLetterVerb(w http.ResponseWriter, r *http.Request, op status.LetterOp) (*status.LetterRequest, error) {
	var b letterBody
	if err := readBody(w, r, maxLettersBody, &b); err != nil {
		return nil, err
	}
	q := &status.LetterRequest{Op: op, Letters: b.Letters, DryRun: b.DryRun, Again: b.Again}
	edit := op == status.LetterEdit
	switch n := len(b.Letters); {
	case n == 0 || n > status.MaxReview || edit && n != 1:
		return nil, fmt.Errorf(
			`"letters" are 1 to %d of {"key": "…", "place": "…"}, and one for an edit`, status.MaxReview)
	case edit != (b.Value != nil):
		return nil, errors.New(`"value" is what an edit writes in the place of the letter's`)
	case op == status.LetterPurge && b.Again:
		return nil, errors.New(`a purge takes "letters" and "dry_run" only`)
	case edit:
		q.Value = []byte(*b.Value)
	}
	for _, l := range b.Letters {
		if l.Key == "" {
			return nil, errors.New(`a letter is named by its "key"`)
		}
	}
	return q, nil
}

// serveLetters serves GET /api/v1/letters.
func (h *handler) serveLetters(w http.ResponseWriter, r *http.Request) {
	q, err := readLetterQuery(r)
	if err != nil {
		h.fail(w, r, "bad-request", err.Error())
		return
	}
	h.waitForKafka(w)
	page, err := h.letters.List(r.Context(), q)
	if err != nil {
		h.failLetters(w, r, err)
		return
	}
	l := h.line(r, verbLetters, "letters", http.StatusOK, "ok", "")
	l.Args = map[string]any{"query": r.URL.RawQuery, "shown": len(page.Letters)}
	if h.record(w, r, l, false) {
		h.reply(w, http.StatusOK, page)
	}
}

// serveLetter serves GET /api/v1/letters/show?key=&place=.
func (h *handler) serveLetter(w http.ResponseWriter, r *http.Request) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || q.Get("key") == "" {
		h.fail(w, r, "bad-request", "one key is needed: "+r.URL.Path+"?key=, and place= to find it at once")
		return
	}
	h.waitForKafka(w)
	key := q.Get("key")
	letter, err := h.letters.Show(r.Context(), status.LetterRef{Key: key, Place: q.Get("place")})
	code := http.StatusOK
	switch {
	case errors.Is(err, status.ErrRefused):
		code = http.StatusNotFound
	case err != nil:
		h.failLetters(w, r, err)
		return
	}
	if !h.record(w, r, h.line(r, verbLetter, key, code, "ok", ""), false) {
		return
	}
	if err != nil {
		h.fail(w, r, "not-found", err.Error())
		return
	}
	h.reply(w, http.StatusOK, letter)
}

// waitForKafka lets an answer take as long as Kafka may. Where that cannot be set the server's own patience holds.
func (h *handler) waitForKafka(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(h.now().Add(letterPatience))
}

// failLetters answers that letters could not be read. What Kafka says, an account's missing right above all, is for
// whoever may look at letters.
func (h *handler) failLetters(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, status.ErrRefused) {
		h.fail(w, r, "refused", err.Error())
		return
	}
	h.log.Warn("letters cannot be read", "request", callOf(r).id, "error", err)
	h.fail(w, r, "kafka-failing", err.Error())
}

func readLetterQuery(r *http.Request) (*status.LetterQuery, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, fmt.Errorf("the query cannot be read: %w", err)
	}
	q := &status.LetterQuery{}
	for name, list := range values {
		v := list[0]
		var err error
		switch name {
		case "from":
			q.From, err = time.Parse(time.RFC3339Nano, v)
		case "until":
			q.Until, err = time.Parse(time.RFC3339Nano, v)
		case "partition":
			var n int64
			n, err = strconv.ParseInt(v, 10, 32)
			p := int32(n)
			q.Partition = &p
		case "reason":
			q.Reason = v
			if !isReason(v) {
				err = errors.New("there is no such reason")
			}
		case "state":
			q.State = status.LetterState(v)
			switch q.State {
			case status.LetterOpen, status.LetterReplayed, status.LetterDiscarded:
			default:
				err = errors.New("it is open, replayed or discarded")
			}
		case "place":
			q.Place = v
		case "limit":
			if q.Limit, err = strconv.Atoi(v); err == nil && (q.Limit < 1 || q.Limit > status.MaxLetters) {
				err = fmt.Errorf("it is 1 to %d", status.MaxLetters)
			}
		default:
			err = errors.New("it is none of from, until (both RFC 3339), partition, reason, state, place and limit")
		}
		if err != nil {
			return nil, fmt.Errorf("%.50s=%.100s: %w", name, v, err)
		}
	}
	return q, nil
}

func isReason(name string) bool {
	for _, r := range event.Reasons() {
		if r.String() == name {
			return true
		}
	}
	return false
}
