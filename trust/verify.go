package trust

import (
	"crypto/x509"
	"errors"
	"time"
)

// Verify verifies a chain (the leaf first) by the block's CAs of now, for each use, and tells until when it holds: the
// first end of a certificate of the chain, where there are several ways to a CA of the last of them.
func (m *Material) Verify(chain []*x509.Certificate, uses ...x509.ExtKeyUsage) (until time.Time, err error) {
	if len(chain) == 0 {
		return until, errors.New("there is no certificate")
	}
	m.mu.Lock()
	o := x509.VerifyOptions{Roots: m.pool, Intermediates: x509.NewCertPool(), CurrentTime: m.now()}
	m.mu.Unlock()
	for _, c := range chain[1:] {
		o.Intermediates.AddCert(c)
	}
	for i, use := range uses {
		o.KeyUsages = []x509.ExtKeyUsage{use}
		ways, err := chain[0].Verify(o)
		if err != nil {
			return time.Time{}, err
		}
		if end := lastEnd(ways); i == 0 || end.Before(until) {
			until = end
		}
	}
	return until, nil
}

// lastEnd returns when the last of several chains ceases to hold.
func lastEnd(chains [][]*x509.Certificate) (last time.Time) {
	for _, chain := range chains {
		end := chain[0].NotAfter
		for _, c := range chain[1:] {
			if c.NotAfter.Before(end) {
				end = c.NotAfter
			}
		}
		if end.After(last) {
			last = end
		}
	}
	return last
}
