package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"

	"deckle/integration/services"
	"deckle/sim"
)

// rotateCA replaces the nodes' CA and all of their certificates while records flow, in the steps that `deckle certs
// rotate --help` has. In every step a node is killed, and finds the new files when it comes back; the others are told.
// At the end a certificate of the former CA must be worth nothing.
func rotateCA(ctx context.Context, t *torture, r *result) error {
	former, err := tls.LoadX509KeyPair(t.Nodes[0].File(t.Nodes[0].CertFile()), t.Nodes[0].File(t.Nodes[0].KeyFile()))
	if err != nil {
		return err
	}
	bundle := func(n *services.Node) error { return t.Give(n, services.CAFile) }
	for _, step := range []struct {
		what    string
		command []string
		give    func(n *services.Node) error
		cas     int // how many each node trusts after it
	}{
		{"both CAs", []string{"rotate"}, bundle, 2},
		{"new certificates", nil, func(n *services.Node) error {
			return errors.Join(t.Certify(ctx, n), t.Give(n, n.CertFile(), n.KeyFile()))
		}, 2},
		{"the new CA alone", []string{"rotate", "--finish"}, bundle, 1},
	} {
		if step.command != nil {
			if err := t.Certs(ctx, step.command...); err != nil {
				return err
			}
		}
		victim := t.pick(nodes)
		r.detail += fmt.Sprintf("%s, node-%d killed; ", step.what, victim+1)
		for _, i := range t.rng.Perm(nodes) {
			if err := t.renew(ctx, r, i, i == victim, step.give); err != nil {
				return err
			}
		}
		if err := t.awaitCertificates(ctx, step.cas); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	r.detail = strings.TrimSuffix(r.detail, "; ")
	present, err := tls.LoadX509KeyPair(t.Nodes[0].File(t.Nodes[0].CertFile()), t.Nodes[0].File(t.Nodes[0].KeyFile()))
	if err != nil {
		return err
	}
	for _, n := range t.Nodes[1:] { // a node does not take its own name
		if err := errors.Join(show(ctx, n, &former, true), show(ctx, n, &present, false)); err != nil {
			return err
		}
	}
	return nil
}

// renew gives a node new files and tells it, or has it killed and started over them.
func (t *torture) renew(ctx context.Context, r *result, node int, kill bool, give func(n *services.Node) error) error {
	n := t.Nodes[node]
	if !kill {
		return errors.Join(give(n), n.Signal(syscall.SIGHUP))
	}
	if _, err := t.kill(r, node); err != nil {
		return err
	}
	if err := errors.Join(give(n), sim.Pause(ctx, t.upTo(2*time.Second))); err != nil {
		return err
	}
	return n.Start()
}

// awaitCertificates waits until every node shows the certificate in its file, and trusts that many CAs.
func (t *torture) awaitCertificates(ctx context.Context, cas int) error {
	ctx, cancel := context.WithTimeout(ctx, readyFor)
	defer cancel()
	for _, n := range t.Nodes {
		pair, err := tls.LoadX509KeyPair(n.File(n.CertFile()), n.File(n.KeyFile()))
		if err != nil {
			return err
		}
		for {
			leaf, trusts, err := shown(ctx, n)
			right := bytes.Equal(leaf, pair.Certificate[0])
			if err == nil && right && trusts == cas {
				break
			}
			if sim.Pause(ctx, 200*time.Millisecond) != nil {
				return errors.Join(err, fmt.Errorf("%s does not use its files: it trusts %d CAs, want %d; it shows "+
					"the certificate in its file: %v", n.Name, trusts, cas, right))
			}
		}
	}
	return nil
}

// dialNode makes a handshake with a node's Raft port.
func dialNode(ctx context.Context, n *services.Node, conf *tls.Config) (net.Conn, error) {
	conf.MinVersion, conf.InsecureSkipVerify = tls.VersionTLS13, true // whoever it is, it is what is looked at
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return (&tls.Dialer{Config: conf}).DialContext(ctx, "tcp", n.Raft)
}

// shown returns the certificate that a node shows to whoever connects, and how many CAs it says that it trusts.
func shown(ctx context.Context, n *services.Node) (leaf []byte, cas int, err error) {
	c, err := dialNode(ctx, n, &tls.Config{
		GetClientCertificate: func(asked *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			cas = len(asked.AcceptableCAs)
			return &tls.Certificate{}, nil
		},
		VerifyConnection: func(s tls.ConnectionState) error { leaf = s.PeerCertificates[0].Raw; return nil },
	})
	if err != nil {
		return nil, 0, err
	}
	return leaf, cas, c.Close()
}

// show shows a node a certificate, which it must refuse or must not.
func show(ctx context.Context, n *services.Node, cert *tls.Certificate, refuse bool) error {
	c, err := dialNode(ctx, n, &tls.Config{
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil },
	})
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	_, err = c.Read(make([]byte, 1)) // a refusal comes behind the handshake
	if refused := err != nil && strings.Contains(err.Error(), "remote error: tls"); refused != refuse {
		return errors.Join(err, fmt.Errorf("%s refuses a certificate: %v, want %v", n.Name, refused, refuse))
	}
	return nil
}
