package web

import (
	"errors"
	"fmt"
	"net/http"

	"deckle/node/status"
)

// addBody is the body of POST /api/v1/partitions/add.
type addBody struct {
	To     *int32 `json:"to"`
	From   *int   `json:"from"`
	DryRun bool   `json:"dry_run"`
}

// AddArgs returns what the audit log has of a request to add partitions: what it is done to, and how.
func AddArgs(c *status.AddPartitions) (target string, args map[string]any) {
	args = map[string]any{"to": c.To, "dry_run": c.DryRun}
	if c.From != nil {
		args["from"] = *c.From
	}
	return "topic", args
}

// serveAddPartitions serves POST /api/v1/partitions/add.
func (h *handler) serveAddPartitions(w http.ResponseWriter, r *http.Request) {
	c, ok := accept(h, w, r, func() (c status.AddPartitions, err error) {
		var b addBody
		if err := readBody(w, r, maxCommand, &b); err != nil {
			return c, err
		}
		switch {
		case b.To != nil && *b.To <= 0:
			return c, fmt.Errorf(`"to" is %d; it is how many partitions are to be read, and without it all`, *b.To)
		case b.To != nil:
			c.To = *b.To
		case !b.DryRun:
			return c, errors.New(`"to" is missing: how many partitions of the topic are to be read`)
		}
		c.From, c.DryRun = b.From, b.DryRun
		return c, nil
	})
	if !ok {
		return
	}
	c.Asker = h.asker(r)
	target, args := AddArgs(&c)
	tell, ok := h.begin(w, r, VerbAdd, target, args)
	if !ok {
		return
	}
	out, err := h.add(r.Context(), c)
	h.conclude(w, r, tell, out, err)
}
