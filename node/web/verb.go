package web

import (
	"net/http"
	"slices"

	"deckle/node/access"
)

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
