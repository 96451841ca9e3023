package web

import (
	"context"
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

// Commander carries out an operator's command. The error wraps status.ErrRefused if nothing has changed.
type Commander func(ctx context.Context, c status.Command) (status.Outcome, error)

// maxCommand bounds the body of a command, in bytes.
const maxCommand = 16 << 10

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
	if why := foreign(r); why != "" {
		h.fail(w, r, "forbidden", why)
		return
	}
	c, err := readCommand(w, r, resume)
	if err != nil {
		id := "bad-request"
		if errors.Is(err, errMediaType) {
			id = "media-type"
		} else if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			id = "too-large"
		}
		h.fail(w, r, id, err.Error())
		return
	}
	out, err := h.command(r.Context(), c)
	switch {
	case errors.Is(err, status.ErrNoLeader):
		h.fail(w, r, "no-leader", err.Error())
	case errors.Is(err, status.ErrRefused):
		h.fail(w, r, "refused", err.Error())
	case err != nil:
		h.fail(w, r, "outcome-unknown", err.Error())
	default:
		h.reply(w, http.StatusOK, out)
	}
}

// foreign says why a request may come from somebody else than an operator at this machine, "" if it may not: a page in
// a browser sends its origin, and a name that an attacker has pointed to this address is none of this machine. Whoever
// comes from the very address that has taken the connection is at this machine, too: http.listen may name no other.
func foreign(r *http.Request) string {
	if r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "" {
		return "commands are not taken from a browser"
	}
	if front.Forwarded(r) {
		return "commands are not taken through a proxy"
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	own := ""
	if at, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		own, _, _ = net.SplitHostPort(at.String())
	}
	from, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil || !loopback(from) && from != own || host != "localhost" && !loopback(host) {
		return "commands are taken from this machine only, under localhost or its address"
	}
	return ""
}

func loopback(host string) bool {
	if n := len(host); n > 1 && host[0] == '[' && host[n-1] == ']' {
		host = host[1 : n-1]
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func readCommand(w http.ResponseWriter, r *http.Request, resume bool) (c status.Command, err error) {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return c, errMediaType
	}
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxCommand))
	d.DisallowUnknownFields()
	var b skipBody
	if err := d.Decode(&b); err != nil {
		return c, fmt.Errorf("the body is not what is expected: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return c, errors.New("something follows the JSON object")
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
