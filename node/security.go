package node

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"deckle/node/config"
	"deckle/raftstore"
	"deckle/trust"
	"deckle/trust/pki"
)

// security is how the nodes' connections are secured (raftstore.Security): by the files of cluster.tls, as they are
// now, and the names in certificates.
type security struct {
	*trust.Material
	names      *pki.Names
	serverName string // must stand in the certificate of whoever is dialled, besides the node's name; "": nothing must
}

// clusterSecurity returns how the nodes' connections are secured, nil for no TLS. Of a cluster of more than one node it
// is an error if the others would refuse this node's certificate.
func clusterSecurity(cfg *config.Config, files *trust.Files) (raftstore.Security, error) {
	c := &cfg.Cluster
	m, err := material(files, clusterTLS, c.TLS)
	if m == nil || err != nil {
		return nil, err
	}
	names := Names(c, cfg.Node)
	if err := ownCertificate(m, names, len(c.Nodes)); err != nil {
		return nil, err
	}
	return &security{m, names, c.TLS.ServerName}, nil
}

// ownCertificate returns why the other nodes would refuse this node's certificate.
func ownCertificate(m *trust.Material, names *pki.Names, nodes int) error {
	if nodes < 2 {
		return nil
	}
	var errs []error
	if err := m.VerifyOwn(x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth); err != nil {
		errs = append(errs,
			fmt.Errorf("%s.cert: the other nodes refuse it, if they have the same CA: %w", clusterTLS, err))
	}
	if err := names.Own(m.Leaf()); err != nil {
		errs = append(errs, fmt.Errorf("%s.cert: it does not name node %s: %w; its name is to be %s "+
			"(deckle certs node %s --config FILE)", clusterTLS, names.Self, err, names.Want(names.Self), names.Self))
	}
	return errors.Join(errs...)
}

// Server returns the configuration of one incoming connection.
func (s *security) Server() *tls.Config {
	return s.Material.Server(tls.RequireAndVerifyClientCert, nil)
}

// Client returns the configuration of one outgoing connection. Go's verification is switched off because it would
// demand the host that is dialled, and an address is a route, not a name; the chain is verified instead.
func (s *security) Client(string) *tls.Config {
	c := s.Material.Client().Clone()
	c.InsecureSkipVerify = true //nolint:gosec // VerifyConnection verifies, and raftstore asks for the name
	c.VerifyConnection = func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) == 0 {
			return errors.New("the other end shows no certificate")
		}
		if _, err := s.Material.Verify(state.PeerCertificates, x509.ExtKeyUsageServerAuth); err != nil {
			return err
		}
		if s.serverName != "" {
			return state.PeerCertificates[0].VerifyHostname(s.serverName)
		}
		return nil
	}
	return c
}

// Peer tells which other node is at the end of a connection, or why it is none.
func (s *security) Peer(state tls.ConnectionState) (node, why, text string) {
	if len(state.PeerCertificates) == 0 {
		return "", string(pki.NoName), "it shows no certificate"
	}
	node, err := s.names.Peer(state.PeerCertificates[0])
	if no := (*pki.Refusal)(nil); errors.As(err, &no) {
		return "", string(no.Why), no.Text
	}
	return node, "", ""
}

// Verify verifies the chain of a connection's other end by the CAs of now, and tells until when it holds.
func (s *security) Verify(state tls.ConnectionState) (until time.Time, err error) {
	if len(state.PeerCertificates) == 0 {
		return until, errors.New("it shows no certificate")
	}
	return s.Material.Verify(state.PeerCertificates, x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth)
}
