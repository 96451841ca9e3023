package services

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// CAFile is the name of the file with the CAs that the nodes trust.
const CAFile = "ca.pem"

// CertFile is the name of the file with the node's certificate, KeyFile that of its key.
func (n *Node) CertFile() string { return n.Name + ".pem" }

// KeyFile is the name of the file with the key of the node's certificate.
func (n *Node) KeyFile() string { return n.Name + "-key.pem" }

// File is the path at which a node has one of these files.
func (n *Node) File(name string) string { return filepath.Join(filepath.Dir(n.Config), name) }

// authority is the folder of the nodes' CA.
func (c *Cluster) authority() string { return filepath.Join(c.dir, "pki") }

// Certs runs a command of `deckle certs` in the folder of the nodes' CA, as an operator does.
func (c *Cluster) Certs(ctx context.Context, args ...string) error {
	args = append([]string{"certs", "--dir", c.authority()}, args...)
	_, err := command(ctx, c.dir, nil, c.Binary, args...)
	return err
}

// Certify makes a node's certificate, in place of the one that it has in the folder of the CA.
func (c *Cluster) Certify(ctx context.Context, n *Node) error {
	return c.Certs(ctx, "node", n.Name, "--config", n.Config, "--force")
}

// Give copies files from the folder of the CA to a node, over those that it has, as an operator does: a node may read
// one that is half written, and a certificate before its key.
func (c *Cluster) Give(n *Node, names ...string) error {
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(c.authority(), name))
		if err == nil {
			err = os.WriteFile(n.File(name), text, 0o600)
		}
		if err != nil {
			return fmt.Errorf("services: giving %s to %s: %w", name, n.Name, err)
		}
	}
	return nil
}

// certify makes a CA, and gives each node what it needs of it.
func (c *Cluster) certify() error {
	ctx := context.Background()
	if err := c.Certs(ctx, "init", "--config", c.Nodes[0].Config); err != nil {
		return err
	}
	for _, n := range c.Nodes {
		if err := c.Certify(ctx, n); err != nil {
			return err
		}
		if err := c.Give(n, CAFile, n.CertFile(), n.KeyFile()); err != nil {
			return err
		}
	}
	return nil
}
