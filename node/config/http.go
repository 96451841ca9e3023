package config

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strings"
)

// HTTP is the address of health, metrics, API and page, and who may ask there.
type HTTP struct {
	Listen string `yaml:"listen" default:"127.0.0.1:8080"`
	// Hosts are further names and addresses under which it may be asked.
	Hosts    []string `yaml:"hosts"`
	BasePath string   `yaml:"base_path"` // the path under which a proxy shows it: /deckle
	// TrustedProxies are networks whose X-Forwarded-For and X-Forwarded-Host are believed.
	TrustedProxies []string `yaml:"trusted_proxies"`
	// MaxConnections bounds the connections; by default (0) it follows from the limit of open files.
	MaxConnections int `yaml:"max_connections"`
}

// Debug is the address at which the process shows its profiles: a loopback address, by default none.
type Debug struct {
	Listen string `yaml:"listen"`
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

// The least that a bound of connections leaves: a page takes some, and probes and Prometheus one each.
const leastConnections = 8

var basePath = regexp.MustCompile(`^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+$`)

func (c *Config) checkHTTP(k *checker) {
	h := &c.HTTP
	k.address("http.listen", h.Listen, true)
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
	if l := c.Debug.Listen; l != "" {
		n := len(k.problems)
		k.address("debug.listen", l, true)
		if at, err := netip.ParseAddrPort(l); len(k.problems) == n && (err != nil || !at.Addr().IsLoopback()) {
			k.add("debug.listen", "%q is no loopback address: profiles have no other protection; use "+
				"127.0.0.1:PORT or [::1]:PORT", l)
		}
	}
}
