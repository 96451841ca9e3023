package node

import "net/http"

// Handler returns health, metrics, API and page of this node; see NewHandler.
func (n *Node) Handler() http.Handler {
	return NewHandler(nodeSource{n}, HTTPOptions{Gatherer: n.deps.Gatherer, Now: n.deps.Now, Logger: n.deps.Logger})
}

// nodeSource is one node as a Source.
type nodeSource struct{ n *Node }

func (s nodeSource) Status() Status { return s.n.Status() }

func (s nodeSource) Store(shard uint32) Replica {
	if store := s.n.Store(shard); store != nil {
		return store
	}
	return nil
}
