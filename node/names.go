package node

import (
	"deckle/node/config"
	"deckle/trust/pki"
)

// Names returns who the nodes of a cluster are by their certificates. self is this node's name, "" for none.
func Names(c *config.Cluster, self string) *pki.Names {
	names := &pki.Names{Cluster: c.Name, Self: self}
	for _, n := range c.Nodes {
		names.Nodes = append(names.Nodes, pki.Node{Name: n.Name, Certificate: n.Certificate})
	}
	return names
}
