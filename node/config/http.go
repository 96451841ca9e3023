package config

import "net/netip"

// HTTP is the address of health, metrics, API and page.
type HTTP struct {
	Listen string `yaml:"listen" default:"127.0.0.1:8080"`
}

// Debug is the address at which the process shows its profiles: a loopback address, by default none.
type Debug struct {
	Listen string `yaml:"listen"`
}

func (c *Config) checkHTTP(k *checker) {
	k.address("http.listen", c.HTTP.Listen, true)
	if l := c.Debug.Listen; l != "" {
		n := len(k.problems)
		k.address("debug.listen", l, true)
		if at, err := netip.ParseAddrPort(l); len(k.problems) == n && (err != nil || !at.Addr().IsLoopback()) {
			k.add("debug.listen", "%q is no loopback address: profiles have no other protection; use "+
				"127.0.0.1:PORT or [::1]:PORT", l)
		}
	}
}
