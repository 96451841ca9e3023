package config

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
)

// The least that a bound of connections leaves: a page takes some, and probes and Prometheus one each.
const leastConnections = 8

var basePath = regexp.MustCompile(`^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+$`)

func (c *Config) checkHTTP(k *checker) {
	h := &c.HTTP
	k.address("http.listen", h.Listen, true)
	if t := h.TLS; t != nil {
		hint := "clients are shown a certificate: give cert and key"
		k.need("http.tls.cert", t.Cert, hint)
		k.need("http.tls.key", t.Key, hint)
		if t.ServerName != "" {
			k.add("http.tls.server_name", "has no meaning here: its names stand in the certificate; take the key away")
		}
		if t.InsecureSkipVerify {
			k.add("http.tls.insecure_skip_verify", "has no meaning here; take the key away")
		}
	}
	for i, host := range h.Hosts {
		key := fmt.Sprintf("http.hosts[%d]", i)
		if _, err := netip.ParseAddr(host); err != nil &&
			(host == "" || strings.ContainsAny(host, "/:*@ \t,[]") || net.ParseIP(host) != nil) {
			k.add(key, "%q is no name and no address: give it without scheme, port and wildcard", host)
		}
	}
	if h.BasePath != "" && !basePath.MatchString(h.BasePath) {
		k.add("http.base_path", "%q is not what is expected: /deckle, without a slash at its end", h.BasePath)
	}
	for i, text := range h.TrustedProxies {
		key := fmt.Sprintf("http.trusted_proxies[%d]", i)
		switch n, err := network(text); {
		case err != nil:
			k.add(key, "%v", err)
		case n.Bits() == 0:
			k.add(key, "%q is everybody: whoever writes the header would be believed; name the proxies", text)
		}
	}
	if h.MaxConnections != 0 {
		k.atLeast("http.max_connections", int64(h.MaxConnections), leastConnections)
	}
	k.inBytes("http.audit.max_bytes", h.Audit.MaxBytes, 1<<20, 1<<40)
	k.atLeast("http.audit.keep", int64(h.Audit.Keep), 1)
	h.checkAuth(k)
	c.checkOpen(k)
	if l := c.Debug.Listen; l != "" {
		n := len(k.problems)
		k.address("debug.listen", l, true)
		if at, err := netip.ParseAddrPort(l); len(k.problems) == n && (err != nil || !at.Addr().IsLoopback()) {
			k.add("debug.listen", "%q is no loopback address: profiles have no other protection; use "+
				"127.0.0.1:PORT or [::1]:PORT", l)
		}
	}
}

func (h *HTTP) checkAuth(k *checker) {
	a := h.Auth
	if a == nil {
		return
	}
	if a.Tokens == "" && a.Certificates == nil && a.OIDC == nil {
		k.add("http.auth.tokens", "is missing: give it, http.auth.certificates or http.auth.oidc; as it is, nobody "+
			"could ask for anything")
	}
	a.OIDC.check(k)
	if c := a.Certificates; c != nil {
		k.need("http.auth.certificates.ca", c.CA, "PEM file of the CAs whose client certificates count")
		if h.TLS == nil {
			k.add("http.auth.certificates", "needs http.tls: clients show certificates over TLS only")
		}
		checkRoles(k, "http.auth.certificates.roles", c.Roles,
			"a URI, DNS name or e-mail address in the client's certificate")
	}
}

func (o *HTTPOIDC) check(k *checker) {
	if o == nil {
		return
	}
	const at = "http.auth.oidc."
	k.need(at+"issuer", o.Issuer, "the https URL of the issuer, as its tokens have it in iss")
	if u, err := url.Parse(o.Issuer); o.Issuer != "" && (err != nil || u.Scheme != "https" || u.Host == "" ||
		u.User != nil || u.RawQuery != "" || u.Fragment != "") {
		k.add(at+"issuer", "%q is no https URL of a host and a path: whoever is on the way to it could be anybody",
			o.Issuer)
	} else if u != nil && o.Issuer != "" {
		k.host(at+"issuer", u)
	}
	k.need(at+"audience", o.Audience, "what the issuer calls Deckle: tokens for others do not count")
	k.need(at+"claim", o.Claim, "the name of the claim that has the roles, e.g. roles, or realm_access.roles")
	checkRoles(k, at+"roles", o.Roles, "a value of "+cmp.Or(o.Claim, "the claim"))
}

// checkRoles checks a list of names and roles.
func checkRoles(k *checker, at string, roles []HTTPRole, what string) {
	if len(roles) == 0 {
		k.add(at, "is missing: list name and role of each client; a name is %s", what)
	}
	seen := map[string]bool{}
	for i, r := range roles {
		key := fmt.Sprintf("%s[%d]", at, i)
		k.need(key+".name", r.Name, what)
		if seen[r.Name] {
			k.add(key+".name", "%q is given twice", r.Name)
		}
		seen[r.Name] = true
	}
}

// Proxied says whether it is set up to be asked by others than this machine, whatever it listens at.
func (h *HTTP) Proxied() bool { return len(h.proxied()) > 0 }

// proxied returns the keys that say so.
func (h *HTTP) proxied() (keys []string) {
	if len(h.Hosts) > 0 {
		keys = append(keys, "hosts")
	}
	if h.BasePath != "" {
		keys = append(keys, "base_path")
	}
	if len(h.TrustedProxies) > 0 {
		keys = append(keys, "trusted_proxies")
	}
	return keys
}

// checkOpen refuses what would be open to others without protection: readers' histories are to be read there.
func (c *Config) checkOpen(k *checker) {
	h := &c.HTTP
	if h.Insecure {
		return
	}
	if h.Auth == nil {
		for _, key := range h.proxied() {
			k.add("http."+key, "is for others than this machine, and without http.auth everybody who comes would be "+
				"an administrator. Give http.auth, or set http.insecure: true to go without")
		}
	}
	if h.TLS != nil && h.Auth != nil || !h.Reachable() {
		return
	}
	k.add("http.listen", "%s is no loopback address, and whoever reaches it could read readers' histories. Give it "+
		"TLS and authentication\n  deckle certs node %s --config deckle.yaml --dir pki\n  deckle token create --file "+
		"/etc/deckle/tokens --role admin\n  http: {listen: \"%s\", tls: {cert: pki/%s.pem, key: pki/%s-key.pem}, "+
		"auth: {tokens: /etc/deckle/tokens}}\nor set http.insecure: true to go without", h.Listen, c.Node, h.Listen,
		c.Node, c.Node)
}

// Reachable says whether others than this machine may reach Listen: it is neither a literal loopback address nor
// localhost. Other names are not resolved.
func (h *HTTP) Reachable() bool {
	host, _, err := net.SplitHostPort(h.Listen)
	if err != nil {
		return false // which is an error of its own
	}
	a, err := netip.ParseAddr(host)
	return !(host == "localhost" || err == nil && a.Unmap().IsLoopback())
}
