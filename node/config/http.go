package config

import (
	"fmt"
	"net/netip"
)

// HTTP is the address of health, metrics, API and page, and who may ask there.
type HTTP struct {
	Listen string `yaml:"listen" default:"127.0.0.1:8080"` // host:port
	// TLS has cert and key of this node's HTTP side; ca verifies them in deckle check only.
	TLS *TLS `yaml:"tls"`
	// Hosts are further names and addresses under which it may be asked.
	Hosts    []string `yaml:"hosts"`
	BasePath string   `yaml:"base_path"` // the path under which a proxy shows it: /deckle
	// TrustedProxies are networks whose X-Forwarded-For and X-Forwarded-Host are believed.
	TrustedProxies []string `yaml:"trusted_proxies"`
	// MaxConnections bounds the connections; by default (0) it follows from the limit of open files.
	MaxConnections int `yaml:"max_connections"`
	// Insecure says that it may be without TLS or authentication where others reach it.
	Insecure bool `yaml:"insecure"`
	// Open is what is answered without authentication, of livez, readyz and metrics; by default the first two.
	Open  []string  `yaml:"open" enum:"livez,readyz,metrics" reload:"yes"`
	Auth  *HTTPAuth `yaml:"auth"`  // nil: whoever reaches it is an administrator
	Audit Audit     `yaml:"audit"` // who did what
}

// HTTPAuth says how those who ask over HTTP are known.
type HTTPAuth struct {
	Tokens       string            `yaml:"tokens"`       // file of tokens, see deckle token
	Certificates *HTTPCertificates `yaml:"certificates"` // of clients
	// access tokens of an issuer (OpenID Connect)
	OIDC *HTTPOIDC `yaml:"oidc"`
}

// HTTPOIDC is an issuer (OpenID Connect) whose access tokens count.
type HTTPOIDC struct {
	Issuer      string     `yaml:"issuer"`       // its https URL, byte by byte as in its tokens
	Audience    string     `yaml:"audience"`     // must be in the claim aud
	Claim       string     `yaml:"claim"`        // with the roles; dots lead into objects
	Roles       []HTTPRole `yaml:"roles"`        // values of the claim, and what each may
	BrandsClaim string     `yaml:"brands_claim"` // with the brands to which the role is held; "*" for all
	CA          string     `yaml:"ca"`           // PEM file of the issuer's CAs; default: those of the system
}

// HTTPCertificates are client certificates that count.
type HTTPCertificates struct {
	CA    string     `yaml:"ca"`    // PEM file of the CAs whose certificates count
	Roles []HTTPRole `yaml:"roles"` // who may what
}

// HTTPRole is one name (in a client certificate a URI, DNS name or e-mail address; of an issuer a value of the claim)
// and its role.
type HTTPRole struct {
	// a URI, DNS name or e-mail address of a certificate, or a value of the claim
	Name string `yaml:"name"`
	Role string `yaml:"role" enum:"viewer,analyst,operator,admin"` // what it may
}

// Audit is the log of who did what over HTTP.
type Audit struct {
	File     string `yaml:"file"`                      // by default audit/audit.jsonl in the data folder
	MaxBytes int64  `yaml:"max_bytes" default:"64MiB"` // then a file is put aside
	Keep     int    `yaml:"keep" default:"16"`         // files that were put aside
}

// Debug is the address at which the process shows its profiles: a loopback address, by default none.
type Debug struct {
	Listen string `yaml:"listen"` // host:port, a loopback address; none: off
}

// Proxies returns the networks of TrustedProxies, which may be addresses.
func (h *HTTP) Proxies() (networks []netip.Prefix) {
	for _, text := range h.TrustedProxies {
		if n, err := network(text); err == nil {
			networks = append(networks, n)
		}
	}
	return networks
}

// network reads 10.0.0.0/8 or 10.0.0.1.
func network(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	n, err := netip.ParsePrefix(text)
	if err != nil {
		return n, fmt.Errorf("%q is no network, such as 10.1.0.0/16, and no address", text)
	}
	return n.Masked(), nil
}
