package front

import (
	"net/netip"
	"testing"
)

// A name that somebody has pointed at this address makes their page and this server one for a browser, so only names
// that are this server's are answered. Probes and Prometheus ask by the address itself.
func TestHosts(t *testing.T) {
	h := newHosts([]string{"0.0.0.0:8080", "Node-A.Example.:7946", "10.1.2.3:7946", "[fd00::7]:80", "", ":8080"},
		func(name string) bool { return name == "cert.example" })
	local := netip.MustParseAddr("192.0.2.7")
	for _, good := range []string{
		"", "localhost", "LOCALHOST:8080", "localhost.", "127.0.0.1", "127.9.9.9:80", "[::1]", "[::1]:8080", "::1",
		"node-a.example", "NODE-A.EXAMPLE.:443", "10.1.2.3", "[fd00::7]:80", "[fd00:0::7]", "192.0.2.7:8080",
		"[::ffff:192.0.2.7]:8080", "cert.example:1", "[::ffff:127.0.0.1]",
	} {
		if !h.allowed(good, local) {
			t.Errorf("%q is refused", good)
		}
	}
	for _, bad := range []string{
		"rebound.example", "localhost.example", "127.0.0.1.example", "node-a.example.evil", "10.1.2.4", "192.0.2.8",
		"xlocalhost", "[fd00::8]", "a b", "localhost:80:80", "2130706433", "0x7f.1", "[127.0.0.1",
		"example", "localhost,evil", "user@localhost",
	} {
		if h.allowed(bad, local) {
			t.Errorf("%q is answered", bad)
		}
	}
	if h.allowed("192.0.2.7", netip.Addr{}) {
		t.Error("an address that is nobody's")
	}
}
