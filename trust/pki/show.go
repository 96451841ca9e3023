package pki

import (
	"crypto/x509"
	"strings"
	"time"
)

// Shown is what can be said of one certificate.
type Shown struct {
	File      string    `json:"file"`
	Kind      string    `json:"kind"`    // "ca", "node", "client", or "other" for a certificate without a URI of Deckle
	Cluster   string    `json:"cluster"` // of the URI, or of a CA; "" if it names none
	Name      string    `json:"name"`    // of the node or client; "" if it names none
	Names     []string  `json:"names"`   // all names, each with its kind: "URI:…", "DNS:…", "IP:…", "email:…"
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	Serial    string    `json:"serial"` // hexadecimal
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	May       []string  `json:"may"` // "sign" certificates, be a "server", be a "client", "anything"
	// TakenAs is the node as which the others take it now, "" for none; Refused says why not, "" for a CA.
	TakenAs string `json:"taken_as"`
	Refused string `json:"refused"`
}

// Show tells what the certificates of a file are (the first, and each further one if it is a bundle of CAs), and
// whether the nodes of a cluster that trust bundle (PEM) would take the first one for a node at the time now. Without
// names (nil) every node of the CA's cluster counts as configured.
func Show(file string, text, bundle []byte, names *Names, now time.Time) ([]Shown, error) {
	certs, err := ParseCertificates(text)
	if err != nil {
		return nil, err
	}
	shown := []Shown{}
	for i, c := range certs {
		if i > 0 && !certs[0].IsCA {
			break // what follows a leaf is its chain
		}
		s := Shown{File: file, Names: namesOf(c, rawURIs(c)), Subject: c.Subject.String(), Issuer: c.Issuer.String(),
			Serial: c.SerialNumber.Text(16), NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC(), Kind: "other",
			May: may(c)}
		if c.IsCA {
			s.Kind, s.Cluster = "ca", (&CA{Cert: c}).Cluster()
			shown = append(shown, s)
			continue
		}
		for _, uri := range rawURIs(c) {
			parts := strings.Split(strings.TrimPrefix(uri, scheme), "/")
			if strings.HasPrefix(uri, scheme) && len(parts) == 3 && (parts[1] == "node" || parts[1] == "client") {
				s.Cluster, s.Kind, s.Name = parts[0], parts[1], parts[2]
			}
		}
		if s.TakenAs, err = taken(&s, certs, bundle, names, now); err != nil {
			s.Refused = err.Error()
		}
		shown = append(shown, s)
	}
	return shown, nil
}

func may(c *x509.Certificate) []string {
	list := []string{}
	if c.IsCA && (c.KeyUsage == 0 || c.KeyUsage&x509.KeyUsageCertSign != 0) {
		list = append(list, "sign")
	}
	for _, u := range c.ExtKeyUsage {
		switch u {
		case x509.ExtKeyUsageServerAuth:
			list = append(list, "server")
		case x509.ExtKeyUsageClientAuth:
			list = append(list, "client")
		case x509.ExtKeyUsageAny:
			list = append(list, "anything")
		}
	}
	if !c.IsCA && len(c.ExtKeyUsage) == 0 && len(c.UnknownExtKeyUsage) == 0 {
		list = append(list, "anything")
	}
	return list
}

func taken(s *Shown, chain []*x509.Certificate, bundle []byte, names *Names, now time.Time) (string, error) {
	roots, err := ParseCertificates(bundle)
	if err != nil {
		return "", &Refusal{NoNode, "there is no CA to verify it against: " + err.Error()}
	}
	if err := VerifyNode(chain, roots, now); err != nil {
		return "", err
	}
	if names == nil {
		names = &Names{}
		for _, r := range roots {
			if c := (&CA{Cert: r}).Cluster(); c != "" {
				names.Cluster = c
			}
		}
		if s.Kind == "node" {
			names.Nodes = []Node{{Name: s.Name}}
		}
	}
	return names.Node(chain[0])
}

// VerifyNode verifies a chain (the leaf first) for both directions of a connection between nodes.
func VerifyNode(chain, roots []*x509.Certificate, now time.Time) error {
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
		o := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: now,
			KeyUsages: []x509.ExtKeyUsage{usage}}
		for _, r := range roots {
			o.Roots.AddCert(r)
		}
		for _, c := range chain[1:] {
			o.Intermediates.AddCert(c)
		}
		if _, err := chain[0].Verify(o); err != nil {
			return err
		}
	}
	return nil
}
