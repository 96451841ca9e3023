package config

import (
	"fmt"
	"net/netip"
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
