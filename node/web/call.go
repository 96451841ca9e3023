package web

import (
	"net/http"

	"deckle/node/access"
	"deckle/node/front"
)

// call is what is known of a request on its way.
type call struct {
	id   string // 16 hexadecimal digits, new for each request
	old  bool   // it came by a path from before /api/v1
	rest string // what stands in place of {id}, unescaped
	// route is the path of the table, "other" for what is not in it.
	route string
	visit front.Visit
	// principal is who asks; its Role is access.Nobody where nobody has to say it.
	principal access.Principal
}

type callKey struct{}

// callOf returns the call of a request that has come through ServeHTTP.
func callOf(r *http.Request) *call { return r.Context().Value(callKey{}).(*call) }
