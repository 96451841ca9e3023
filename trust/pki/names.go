package pki

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"net"
	"slices"
	"strings"
)

const scheme = "deckle://"

// NodeURI is the name of a node in its certificate.
func NodeURI(cluster, node string) string { return scheme + cluster + "/node/" + node }

// ClientURI is the name of a client of the HTTP side in its certificate.
func ClientURI(cluster, client string) string { return scheme + cluster + "/client/" + client }

// CheckCluster says what is wrong with the name of a cluster: it must fit the host of a URI.
func CheckCluster(name string) error {
	if name == "" || len(name) > 63 || strings.Contains(name, "..") ||
		strings.ContainsFunc(name, func(r rune) bool {
			return !('a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '.' || r == '-')
		}) || strings.ContainsRune(".-", rune(name[0])) || strings.ContainsRune(".-", rune(name[len(name)-1])) {
		return fmt.Errorf("%q is no name of a cluster: 1 to 63 of a to z, 0 to 9, '.' and '-', with a letter or digit "+
			"at both ends", name)
	}
	return nil
}

// checkName says what is wrong with the name of a node or client.
func checkName(name string) error {
	if name == "" || len(name) > 64 || strings.Trim(name, ".") == "" || strings.ContainsFunc(name, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-_.", r))
	}) {
		return fmt.Errorf("%q is no name: 1 to 64 letters, digits, '-', '_' and '.'", name)
	}
	return nil
}

// CheckCertificateName says what is wrong with a name by which the configuration knows a node's certificate: a DNS
// name, an IP address, or a URI.
func CheckCertificateName(name string) error {
	for _, r := range name {
		if r <= ' ' || r > '~' {
			return fmt.Errorf("%q holds a blank or a character that no certificate's name has", name)
		}
	}
	switch {
	case name == "":
		return fmt.Errorf("is empty")
	case strings.Contains(name, "*"):
		return fmt.Errorf("%q has a wildcard, which would be many nodes", name)
	case !strings.Contains(name, "://") && net.ParseIP(name) == nil && strings.ContainsAny(name, ":/@"):
		return fmt.Errorf("%q is neither a DNS name (without port), nor an IP address, nor a URI", name)
	}
	return nil
}

// Canonical returns a form of a certificate's name that is equal for two names if and only if they fit the same
// certificates.
func Canonical(name string) string {
	if strings.Contains(name, "://") {
		return name
	}
	if ip := net.ParseIP(name); ip != nil {
		return ip.String()
	}
	return strings.ToLower(name)
}

// Why says why a certificate is no node; it is the label of a metric.
type Why string

// The reasons.
const (
	NoName       Why = "no_name"       // it has not exactly one URI deckle://, and no name from the configuration
	OtherCluster Why = "other_cluster" // its URI names another cluster
	NoNode       Why = "no_node"       // its names are of no configured node (of a client, for example), or of several
	OwnName      Why = "own_name"      // it is this node's own name: two processes hold one key
	WrongNode    Why = "wrong_node"    // it is another node than the one that was dialled
)

// Refusal is the error that says why a certificate is not whom somebody wants.
type Refusal struct {
	Why  Why
	Text string // a whole clause, with the names of the certificate
}

// Error returns the text.
func (r *Refusal) Error() string { return r.Text }

// Node is a configured node.
type Node struct {
	Name        string
	Certificate string // the name in its certificate; "" for the URI of NodeURI
}

// Names are the nodes of a cluster, as the configuration has them.
type Names struct {
	Cluster string
	Self    string // this node's name
	Nodes   []Node
}

// Node returns the configured node, this one included, that a leaf is. The error is a *Refusal.
func (n *Names) Node(leaf *x509.Certificate) (string, error) {
	uris := rawURIs(leaf)
	var ours []string // URIs of our scheme
	for _, u := range uris {
		if len(u) >= len("deckle:") && strings.EqualFold(u[:len("deckle:")], "deckle:") {
			ours = append(ours, u)
		}
	}
	var fit []string
	for _, node := range n.Nodes {
		switch {
		case node.Certificate != "" && hasName(leaf, uris, node.Certificate),
			node.Certificate == "" && len(ours) == 1 && ours[0] == NodeURI(n.Cluster, node.Name):
			fit = append(fit, node.Name)
		}
	}
	has := "the certificate has " + describeNames(leaf, uris)
	switch {
	case len(fit) == 1:
		return fit[0], nil
	case len(fit) > 1:
		return "", &Refusal{NoNode, fmt.Sprintf("%s, which is more than one node: %s", has, strings.Join(fit, ", "))}
	case len(ours) == 0:
		return "", &Refusal{NoName, has + ", and none of these is the name of a node"}
	case len(ours) > 1:
		return "", &Refusal{NoName, has + ": more than one URI of Deckle names nobody"}
	case !strings.HasPrefix(ours[0], scheme+n.Cluster+"/"):
		return "", &Refusal{OtherCluster, fmt.Sprintf("%s; this cluster is %q", has, n.Cluster)}
	}
	return "", &Refusal{NoNode, fmt.Sprintf("%s, which is no node of cluster %q in the configuration", has, n.Cluster)}
}

// Peer returns the other node that a leaf is. The error is a *Refusal.
func (n *Names) Peer(leaf *x509.Certificate) (string, error) {
	node, err := n.Node(leaf)
	if err == nil && node == n.Self {
		return "", &Refusal{OwnName, fmt.Sprintf("the certificate has %s: that is this node itself, so two processes "+
			"use one certificate", describeNames(leaf, rawURIs(leaf)))}
	}
	return node, err
}

// Own says why the other nodes would not take a leaf as this node's. The error is a *Refusal.
func (n *Names) Own(leaf *x509.Certificate) error {
	node, err := n.Node(leaf)
	if err == nil && node != n.Self {
		err = &Refusal{WrongNode, fmt.Sprintf("the certificate has %s: that is node %s, and this is node %s",
			describeNames(leaf, rawURIs(leaf)), node, n.Self)}
	}
	return err
}

// Want returns the name that a node's certificate must have.
func (n *Names) Want(node string) string {
	for _, c := range n.Nodes {
		if c.Name == node && c.Certificate != "" {
			return c.Certificate
		}
	}
	return NodeURI(n.Cluster, node)
}

// hasName says whether a name stands among the leaf's names.
func hasName(leaf *x509.Certificate, uris []string, name string) bool {
	if strings.Contains(name, "://") {
		return slices.Contains(uris, name)
	}
	if ip := net.ParseIP(name); ip != nil {
		for _, has := range leaf.IPAddresses {
			if has.Equal(ip) {
				return true
			}
		}
		return false
	}
	for _, has := range leaf.DNSNames {
		if strings.EqualFold(has, name) {
			return true
		}
	}
	return false
}

var oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// rawURIs returns the URIs of a certificate as its bytes have them: x509 parses them, and what it prints may differ
// from what was signed (deckle://main/node/%61 has the path /node/a).
func rawURIs(cert *x509.Certificate) (uris []string) {
	const uri = 6 // the tag of uniformResourceIdentifier in a GeneralName
	for _, e := range cert.Extensions {
		if !e.Id.Equal(oidSubjectAltName) {
			continue
		}
		var seq asn1.RawValue
		if rest, err := asn1.Unmarshal(e.Value, &seq); err != nil || len(rest) > 0 {
			return nil
		}
		for rest := seq.Bytes; len(rest) > 0; {
			var name asn1.RawValue
			var err error
			if rest, err = asn1.Unmarshal(rest, &name); err != nil {
				return nil
			}
			if name.Class == asn1.ClassContextSpecific && name.Tag == uri {
				uris = append(uris, string(name.Bytes))
			}
		}
	}
	return uris
}

// describeNames lists the names of a certificate for people, at most ten.
func describeNames(cert *x509.Certificate, uris []string) string {
	list := namesOf(cert, uris)
	switch {
	case len(list) == 0:
		return "no names"
	case len(list) > 10:
		list = append(list[:10:10], fmt.Sprintf("%d more", len(list)-10))
	}
	return strings.Join(list, ", ")
}

// namesOf lists the names of a certificate, each with its kind, URIs first. Texts are quoted where they must be: a
// stranger chooses them.
func namesOf(cert *x509.Certificate, uris []string) []string {
	list := []string{}
	add := func(kind string, names []string) {
		for _, n := range names {
			if len(n) > 200 {
				n = n[:200] + "…"
			}
			if q := fmt.Sprintf("%q", n); q != `"`+n+`"` {
				n = q
			}
			list = append(list, kind+":"+n)
		}
	}
	add("URI", uris)
	add("DNS", cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		list = append(list, "IP:"+ip.String())
	}
	add("email", cert.EmailAddresses)
	return list
}
