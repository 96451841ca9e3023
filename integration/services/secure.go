package services

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
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

// The names of a node's files with passwords, tokens and its key of encryption.
const (
	kafkaPassword = "kafka-password"
	s3Secret      = "s3-secret"
	clickPassword = "clickhouse-password"
	tokensFile    = "tokens"
	keyFile       = "encryption-key"
)

func (c *Cluster) kafkaBlock(n *Node) string {
	a := c.kafka.Secure
	if a == nil {
		return ""
	}
	return fmt.Sprintf("  tls: {ca: %s}\n  sasl: {mechanism: scram-sha-512, user: %s, password: {file: %s}}\n",
		a.CA, a.User, n.File(kafkaPassword))
}

func (c *Cluster) endpoint(addr string) string {
	if c.minio.Secure == nil {
		return "http://" + addr
	}
	return "https://" + addr
}

func (c *Cluster) s3Block(n *Node) string {
	a := c.minio.Secure
	if a == nil {
		return "    secret_key: {env: DECKLE_S3_SECRET_KEY}\n"
	}
	return fmt.Sprintf("    secret_key: {file: %s}\n    tls: {ca: %s}\n", n.File(s3Secret), a.CA)
}

func (c *Cluster) clickHouseBlock(n *Node) string {
	a := c.click.Secure
	if a == nil {
		return "  password: {env: DECKLE_CLICKHOUSE_PASSWORD}\n"
	}
	return fmt.Sprintf("  password: {file: %s}\n  tls: {ca: %s}\n", n.File(clickPassword), a.CA)
}

func (n *Node) httpBlock() string {
	if !n.guarded {
		return ""
	}
	return fmt.Sprintf("  tls: {cert: %s, key: %s}\n  auth: {tokens: %s}\n", n.File(n.CertFile()), n.File(n.KeyFile()),
		n.File(tokensFile))
}

func (n *Node) encryptionBlock() string {
	if !n.guarded {
		return ""
	}
	return fmt.Sprintf("encryption: {keys: [{file: %s}]}\n", n.File(keyFile))
}

// GivePasswords writes the present passwords of all services into the nodes' files.
func (c *Cluster) GivePasswords() error {
	var errs []error
	for _, n := range c.Nodes {
		for name, a := range map[string]*Account{
			kafkaPassword: c.kafka.Secure, s3Secret: c.minio.Secure, clickPassword: c.click.Secure,
		} {
			if a != nil {
				errs = append(errs, replaceFile(n.File(name), a.Password()))
			}
		}
	}
	return errors.Join(errs...)
}

// guard makes each node's key of encryption, and a token for the tests.
func (c *Cluster) guard() error {
	ctx := context.Background()
	for _, n := range c.Nodes {
		if _, err := command(ctx, c.dir, nil, c.Binary, "encryption", "keygen", "--out", n.File(keyFile)); err != nil {
			return err
		}
	}
	return c.NewToken(ctx)
}

// NewToken makes a token, as an operator does, in every node's file of tokens, where the former ones stay. Nodes are
// asked with the new one from now on.
func (c *Cluster) NewToken(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, c.Binary, "token", "create", "--file", c.Nodes[0].File(tokensFile),
		"--role", "admin", "--name", "tests")
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("services: deckle token create: %w", err)
	}
	token := strings.TrimSpace(string(out))
	if err := c.giveTokens(); err != nil {
		return err
	}
	for _, n := range c.Nodes {
		n.token.Store(&token)
	}
	return nil
}

// Revoke takes a token out of all nodes' files.
func (c *Cluster) Revoke(ctx context.Context, token string) error {
	id, _, ok := strings.Cut(strings.TrimPrefix(token, "dkl_"), "_") // as the format of tokens has it
	if !ok {
		return fmt.Errorf("services: a token of %d characters without an id", len(token))
	}
	file := c.Nodes[0].File(tokensFile)
	if _, err := command(ctx, c.dir, nil, c.Binary, "token", "revoke", id, "--file", file); err != nil {
		return err
	}
	return c.giveTokens()
}

// giveTokens gives all nodes the first one's file of tokens.
func (c *Cluster) giveTokens() error {
	text, err := os.ReadFile(c.Nodes[0].File(tokensFile))
	for _, n := range c.Nodes[1:] {
		if err == nil {
			err = replaceFile(n.File(tokensFile), string(text))
		}
	}
	if err != nil {
		return fmt.Errorf("services: %w", err)
	}
	return nil
}

// Token is the one with which the node is asked.
func (n *Node) Token() string { return *n.token.Load() }

// With asks the node with a certain token, and returns the status of the answer.
func (n *Node) With(ctx context.Context, token, path string) (status int, err error) {
	_, status, err = httpGet(ctx, n.client, "https://"+n.HTTP+path, token)
	return status, err
}

// newClient returns one that trusts the CAs that the node has in its file whenever a connection is made. Connections
// are kept for a while: a handshake for each question would be work of the node that a measurement takes for its own.
func (n *Node) newClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		IdleConnTimeout: 10 * time.Second,
		DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			bundle, err := os.ReadFile(n.File(CAFile))
			if err != nil {
				return nil, err
			}
			pool := x509.NewCertPool()
			if !pool.AppendCertsFromPEM(bundle) {
				return nil, fmt.Errorf("services: %s has no certificate", n.File(CAFile))
			}
			d := tls.Dialer{Config: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}}
			return d.DialContext(ctx, network, addr)
		},
	}}
}
