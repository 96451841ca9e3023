package node

import (
	"context"
	"net/http"

	"deckle/node/config"
	"deckle/node/status"
	"deckle/node/web"
)

// Handler returns health, metrics, API and page of this node; see web.NewHandler.
func (n *Node) Handler() http.Handler {
	var tables web.Tables
	if n.lake != nil {
		tables = n.lake.table
	}
	return web.NewHandler(nodeSource{n}, web.Options{Gatherer: n.deps.Gatherer, Now: n.deps.Now, Logger: n.deps.Logger,
		Command: n.Command, Suppressions: n.commands.lists, Tables: tables, Letters: n.letters, Tap: n.tap,
		Mover: n.mover, AddPartitions: n.AddPartitions,
		Gate: n.http.gate, Access: n.http.access, Audit: n.http.audit.Load(), Insecure: n.cfg.HTTP.Insecure,
		Open:    func() []string { return n.reloads.live.Load().HTTP.Open },
		Recent:  n.deps.RecentLog,
		Commits: func(ctx context.Context) any { return n.commits(ctx) },
		Config: func() (any, string) {
			values := n.reloads.live.Load().Values()
			return values, config.ShowYAML(values)
		},
		Encryption: func() (any, error) {
			return lookAtKeys(n.cfg, n.deps.FS, n.keys)
		}})
}

// nodeSource is one node as a web.Source.
type nodeSource struct{ n *Node }

func (s nodeSource) Status() status.Node { return s.n.Status() }

func (s nodeSource) Store(shard uint32) web.Replica {
	if store := s.n.Store(shard); store != nil {
		return store
	}
	return nil
}
