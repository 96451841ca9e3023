package web

import (
	"net/http"

	"deckle/node/access"
	"deckle/node/front"
)

// route is one row of the table of routes. The mux, docs/operations.md and the tests are made from it.
type route struct {
	method string // GET, which HEAD is answered like, or POST
	path   string
	old    string      // the path that it had before /api/v1, "" if it had none
	role   access.Role // what it takes to get an answer
	public bool        // it takes nothing: there is nothing in the answer that is not everybody's
	class  front.Class
	brands brandRule
	verb   string // in the audit log, "" for what is not recorded
	about  string // for docs/operations.md
	// serve answers. For a path that ends with {id}, call.rest is the id.
	serve   func(*handler, http.ResponseWriter, *http.Request)
	command bool // there is nobody to ask without Options.Command
	adds    bool // no partitions are added without Options.AddPartitions
	list    bool // there is no list of suppressed readers without Options.Suppressions
	tables  bool // there are no Delta tables without Options.Tables
	keys    bool // there is nothing to show without Options.Encryption
	letters bool // there are no letters without Options.Letters
	taps    bool // there is nothing to look at without Options.Tap
	cluster bool // there is nobody to ask without Options.Mover
	config  bool // there is nothing to show without Options.Config
	login   bool // there is nothing to do where nobody has to say who they are
}

// need is the role that it takes to get an answer. A route that says nothing of it is an administrator's.
func (r *route) need() access.Role {
	switch {
	case r.public:
		return access.Nobody
	case r.role == access.Nobody:
		return access.Admin
	}
	return r.role
}

// brandRule says what a role that is held to some brands gets of a route.
type brandRule uint8

const (
	closed   brandRule = iota // nothing: so is a new route until somebody has thought about it
	whole                     // all, since it says nothing of any brand
	filtered                  // what is of these brands
)

// String returns what docs/operations.md has.
func (b brandRule) String() string {
	return [...]string{closed: "no", whole: "yes", filtered: "theirs alone"}[b]
}
