package web

import (
	"fmt"
	"net/http"
	"slices"

	"deckle/node/access"
	"deckle/node/status"
)

// The verbs that commands are, in the table of routes and in the audit log.
const (
	verbSkip   = "partitions.skip"
	verbResume = "partitions.resume"
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

// Need returns the role that the table of routes wants for a verb: an administrator's for one that it does not have.
func Need(verb string) access.Role {
	if i := slices.IndexFunc(routes, func(r route) bool { return r.verb == verb }); i >= 0 {
		return routes[i].need()
	}
	return access.Admin
}

// Outcome returns how the audit log has what came of a command: the status of the answer, and the result.
func Outcome(err error) (code int, result string) {
	id, result := outcome(err)
	if id == "" {
		return http.StatusOK, result
	}
	return problems[id].status, result
}
