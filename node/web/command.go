package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"

	"deckle/node/front"
	"deckle/node/status"
)

// maxCommand bounds the body of a command, in bytes.
const maxCommand = 16 << 10

// The verbs that commands are, in the table of routes and in the audit log.
const (
	verbSkip   = "partitions.skip"
	verbResume = "partitions.resume"
	// VerbAdd is status.AddPartitions.
	VerbAdd = "partitions.add"
)

// VerbOf returns what a command is in the audit log: the verb, which the table of routes has, too, what it is done to,
// and how.
func VerbOf(c *status.Command) (verb, target string, args map[string]any) {
	target = fmt.Sprint("partition ", c.Partition)
	if c.Resume {
		return verbResume, target, map[string]any{}
	}
	return verbSkip, target, map[string]any{"from": c.From, "to": c.To, "reason": c.Reason, "sink": c.Sink}
}

var errMediaType = errors.New("the body must be JSON, with Content-Type: application/json")

// skipBody is the body of POST /api/v1/partitions/skip; resume reads the partition only.
type skipBody struct {
	Partition *int32 `json:"partition"`
	From      *int64 `json:"from"`
	To        *int64 `json:"to"`
	Sink      string `json:"sink"` // "events" for a gap of raw events alone
	Reason    string `json:"reason"`
}

// serveSkip serves POST /api/v1/partitions/skip.
func (h *handler) serveSkip(w http.ResponseWriter, r *http.Request) { h.serveCommand(w, r, false) }

// serveResume serves POST /api/v1/partitions/resume.
func (h *handler) serveResume(w http.ResponseWriter, r *http.Request) { h.serveCommand(w, r, true) }

func (h *handler) serveCommand(w http.ResponseWriter, r *http.Request, resume bool) {
	c, ok := accept(h, w, r, func() (status.Command, error) { return readCommand(w, r, resume) })
	if !ok {
		return
	}
	c.Asker = h.asker(r)
	verb, target, args := VerbOf(&c)
	tell, ok := h.begin(w, r, verb, target, args)
	if !ok {
		return
	}
	out, err := h.command(r.Context(), c)
	h.conclude(w, r, tell, out, err)
}

// accept reads the body of a verb that comes from no page of others. Where it is not ok the client has its answer.
func accept[T any](h *handler, w http.ResponseWriter, r *http.Request, read func() (T, error)) (body T, ok bool) {
	if why := h.foreign(r); why != "" {
		h.deny(w, r, "forbidden", why)
		return body, false
	}
	body, err := read()
	if err != nil {
		h.fail(w, r, badBody(err), err.Error())
		return body, false
	}
	return body, true
}

// conclude tells the audit log and the client what came of a verb that has begun.
func (h *handler) conclude(w http.ResponseWriter, r *http.Request, tell func(int, string, string), out any, err error) {
	id, result := outcome(err)
	if err != nil {
		tell(problems[id].status, result, err.Error())
		h.fail(w, r, id, err.Error())
		return
	}
	tell(http.StatusOK, result, "")
	h.reply(w, http.StatusOK, out)
}

// badBody returns the key of problems for a body that cannot be read.
func badBody(err error) string {
	if errors.Is(err, errMediaType) {
		return "media-type"
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return "too-large"
	}
	return "bad-request"
}

func (h *handler) asker(r *http.Request) status.Asker {
	who := &callOf(r).principal
	return status.Asker{Principal: who.Who, Name: who.Name, Role: who.Role.String(), Request: callOf(r).id}
}

// begin writes a line of the audit log before a verb is carried out, and returns what writes one after: a crash between
// them leaves the attempt. If it cannot, the request is answered, and ok false. A line has what is in args then.
func (h *handler) begin(w http.ResponseWriter, r *http.Request, verb, target string, args map[string]any) (
	tell func(code int, result, detail string), ok bool) {
	begun := h.line(r, verb, target, 0, "begun", "")
	begun.Args = args
	if !h.record(w, r, begun, true) {
		return nil, false
	}
	return func(code int, result, detail string) {
		if h.audit == nil {
			return
		}
		l := h.line(r, verb, target, code, result, detail)
		l.Args = args
		if err := h.audit.Write(l, true); err != nil { // it is done, whatever the log has of it
			h.log.Error("the outcome of a verb is not in the audit log", "request", l.Request, "error", err)
		}
	}, true
}

// outcome returns what a command's error is: a key of problems, "" without an error, and a result for the audit log.
func outcome(err error) (id, result string) {
	switch {
	case err == nil:
		return "", "ok"
	case errors.Is(err, status.ErrNoLeader):
		return "no-leader", "refused"
	case errors.Is(err, status.ErrRefused):
		return "refused", "refused"
	}
	return "outcome-unknown", "unknown"
}

// foreign says why a command is not taken from where it comes, "" if it is. Who has said who they are may be anywhere,
// but in no browser.
func (h *handler) foreign(r *http.Request) string {
	if !h.access.Required() {
		return foreign(r)
	}
	if browser(r) {
		return "commands are not taken from a browser"
	}
	return ""
}

// browser says whether a request comes from a page in a browser.
func browser(r *http.Request) bool {
	return r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != ""
}

// foreign says why a request may come from somebody else than an operator at this machine, "" if it may not: a page in
// a browser sends its origin, and a name that an attacker has pointed to this address is none of this machine. Whoever
// comes from the very address that has taken the connection is at this machine, too: http.listen may name no other.
func foreign(r *http.Request) string {
	if browser(r) {
		return "commands are not taken from a browser"
	}
	if front.Forwarded(r) {
		return "commands are not taken through a proxy"
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if !fromMachine(r) || host != "localhost" && !loopback(host) {
		return "commands are taken from this machine only, under localhost or its address"
	}
	return ""
}

// isJSON says whether a request says that its body is JSON.
func isJSON(r *http.Request) bool {
	t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && t == "application/json"
}

func loopback(host string) bool {
	if n := len(host); n > 1 && host[0] == '[' && host[n-1] == ']' {
		host = host[1 : n-1]
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func readCommand(w http.ResponseWriter, r *http.Request, resume bool) (c status.Command, err error) {
	var b skipBody
	if err := readBody(w, r, maxCommand, &b); err != nil {
		return c, err
	}
	switch {
	case b.Partition == nil:
		return c, errors.New(`"partition" is missing`)
	case resume && (b.From != nil || b.To != nil || b.Sink != ""):
		return c, errors.New(`resume takes "partition" only`)
	case resume:
		return status.Command{Partition: *b.Partition, Resume: true}, nil
	case b.From == nil || b.To == nil:
		return c, errors.New(`"from", the next offset, and "to" are needed: the offsets from the one up to the ` +
			`other, without it, are given up`)
	}
	return status.Command{Partition: *b.Partition, Sink: b.Sink, From: *b.From, To: *b.To, Reason: b.Reason}, nil
}

// bodyError says that a body is not the JSON that is expected. Its text may show a part of it.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return "the body is not what is expected: " + e.err.Error() }

func (e *bodyError) Unwrap() error { return e.err }

// readBody reads the one JSON object that is the body of a request, of at most so many bytes; b has all of its members.
// The error is errMediaType, a *bodyError, or says that something follows the object.
func readBody(w http.ResponseWriter, r *http.Request, most int64, b any) error {
	if !isJSON(r) {
		return errMediaType
	}
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, most))
	d.DisallowUnknownFields()
	if err := d.Decode(b); err != nil {
		return &bodyError{err}
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON object")
	}
	return nil
}
