package access

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Certificates are client certificates that count.
type Certificates struct {
	// Pool returns the CAs that are in use now.
	Pool func() *x509.CertPool
	// Roles are the names (URI, DNS name or e-mail address of the certificate) that count.
	Roles []Named
}

// Named is one name and what it may.
type Named struct {
	Name string
	Role Role
}

// identify says whose a chain is: its first certificate proves to be the client's by the handshake.
func (c *Certificates) identify(chain []*x509.Certificate, now time.Time) (*Principal, error) {
	between := x509.NewCertPool()
	for _, cert := range chain[1:] {
		between.AddCert(cert)
	}
	leaf := chain[0]
	pool := c.Pool()
	if pool == nil { // which Verify would take for the system's
		return nil, errors.New("no CA of clients is in use")
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: pool, Intermediates: between, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		return nil, fmt.Errorf("the certificate is not taken: %w", err)
	}
	var found *Named
	for i := range c.Roles {
		if n := &c.Roles[i]; names(leaf, n.Name) {
			if found != nil {
				return nil, errors.New("the certificate has two names that are known here")
			}
			found = n
		}
	}
	if found == nil {
		return nil, errors.New("the certificate has no name that is known here")
	}
	return &Principal{Who: "cert:" + found.Name, Role: found.Role}, nil
}

// names says whether a certificate has a name. A common name counts for nothing.
func names(c *x509.Certificate, name string) bool {
	for _, u := range c.URIs {
		if u.String() == name {
			return true
		}
	}
	for _, d := range c.DNSNames {
		if strings.EqualFold(d, name) && !strings.Contains(d, "*") {
			return true
		}
	}
	return slices.Contains(c.EmailAddresses, name)
}
