package web

import (
	"net/http"
)

// problem is what is wrong with a request, in the form of RFC 9457 (application/problem+json).
type problem struct {
	Type    string `json:"type"` // urn:deckle:problem: and a key of problems
	Title   string `json:"title"`
	Status  int    `json:"status"`
	Detail  string `json:"detail"`
	Request string `json:"request"` // names the request, here and in the log
}

// oldProblem is the same at the paths from before /api/v1.
type oldProblem struct {
	Error string `json:"error"`
}

const problemType = "urn:deckle:problem:"

// problems are all ids that a type may have. docs/operations.md says what to do about each.
var problems = map[string]struct {
	status int
	old    int // the status at the paths from before /api/v1, if it is another one
	title  string
}{
	"bad-request":       {status: http.StatusBadRequest, title: "The request is not what is expected"},
	"forbidden":         {status: http.StatusForbidden, title: "This is not taken from there"},
	"unauthenticated":   {status: http.StatusUnauthorized, title: "Say who you are"},
	"issuer-away":       {status: http.StatusServiceUnavailable, title: "Who issued the token cannot be asked"},
	"role":              {status: http.StatusForbidden, title: "The role does not reach"},
	"brand":             {status: http.StatusForbidden, title: "The role is held to some brands"},
	"audit-unavailable": {status: http.StatusServiceUnavailable, title: "The audit log fails, nothing is done"},
	"not-found":         {status: http.StatusNotFound, title: "There is nothing of that name"},
	"method":            {status: http.StatusMethodNotAllowed, title: "That cannot be done with this"},
	"refused":           {status: http.StatusConflict, title: "Refused, nothing has changed"},
	"too-large":         {http.StatusRequestEntityTooLarge, http.StatusBadRequest, "The body is too large"},
	"media-type":        {http.StatusUnsupportedMediaType, http.StatusBadRequest, "The body is of another type"},
	"host-unknown":      {status: http.StatusMisdirectedRequest, title: "This node is not known under that name"},
	"too-many-requests": {status: http.StatusTooManyRequests, title: "Too many requests, ask later"},
	"kafka-failing":     {status: http.StatusServiceUnavailable, title: "Kafka does not give it, nothing has changed"},
	"internal":          {status: http.StatusInternalServerError, title: "The node has failed to answer"},
	"outcome-unknown":   {status: http.StatusBadGateway, title: "It is not known whether it was done"},
	"no-leader": {http.StatusServiceUnavailable, http.StatusConflict,
		"Nobody leads the shard now, nothing has changed"},
}

// fail answers that something is wrong with a request: id is a key of problems.
func (h *handler) fail(w http.ResponseWriter, r *http.Request, id, detail string) {
	p, c := problems[id], callOf(r)
	if !c.old {
		h.write(w, p.status, "application/problem+json", problem{problemType + id, p.title, p.status, detail, c.id})
		return
	}
	status := p.status
	if p.old != 0 {
		status = p.old
	}
	h.write(w, status, "application/json", oldProblem{detail})
}
