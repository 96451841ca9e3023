package web

import (
	"errors"
	"net/http"

	"deckle/node/status"
)

// ClusterVerb returns what an operation on the nodes is in the audit log and in the table of routes.
func ClusterVerb(op status.ClusterOp) string { return "cluster." + string(op) }

// isName says whether a text may be the name of a node: it comes into the audit log.
func isName(text string) bool { return text != "" && len(text) <= 255 }

type transferBody struct {
	Shard *uint32 `json:"shard"`
	All   bool    `json:"all"`
	To    string  `json:"to"`
}

// serveTransfer serves POST /api/v1/cluster/transfer.
func (h *handler) serveTransfer(w http.ResponseWriter, r *http.Request) {
	b, ok := accept(h, w, r, func() (b transferBody, err error) {
		if err = readBody(w, r, maxCommand, &b); err == nil && (b.All == (b.Shard != nil) || !isName(b.To)) {
			err = errors.New(`one of "shard", a number, and "all": true is needed, and "to", a node`)
		}
		return b, err
	})
	if !ok {
		return
	}
	args := map[string]any{"all": true}
	if b.Shard != nil {
		args = map[string]any{"shard": *b.Shard}
	}
	tell, ok := h.begin(w, r, ClusterVerb(status.ClusterTransfer), "node "+b.To, args)
	if !ok {
		return
	}
	out, err := h.mover.Transfer(r.Context(), &status.TransferRequest{Shard: b.Shard, To: b.To, Asker: h.asker(r)})
	if err == nil {
		args["whole"] = out.Whole
	}
	h.conclude(w, r, tell, out, err)
}

// serveDrain serves POST /api/v1/cluster/drain.
func (h *handler) serveDrain(w http.ResponseWriter, r *http.Request) { h.serveDrained(w, r, false) }

// serveUndrain serves POST /api/v1/cluster/undrain.
func (h *handler) serveUndrain(w http.ResponseWriter, r *http.Request) { h.serveDrained(w, r, true) }

func (h *handler) serveDrained(w http.ResponseWriter, r *http.Request, off bool) {
	type body struct {
		Node string `json:"node"`
	}
	b, ok := accept(h, w, r, func() (b body, err error) {
		if err = readBody(w, r, maxCommand, &b); err == nil && !isName(b.Node) {
			err = errors.New(`"node", the name of one, is needed`)
		}
		return b, err
	})
	if !ok {
		return
	}
	op := status.ClusterDrain
	if off {
		op = status.ClusterUndrain
	}
	tell, ok := h.begin(w, r, ClusterVerb(op), "node "+b.Node, map[string]any{})
	if !ok {
		return
	}
	out, err := h.mover.Drain(r.Context(), &status.DrainRequest{Node: b.Node, Off: off, Asker: h.asker(r)})
	h.conclude(w, r, tell, out, err)
}
