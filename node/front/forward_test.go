package front

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

// Who asks is what the last trusted proxy says. A client that writes the header itself is not believed, nor is what it
// has written before the proxy added its own: else it could be anybody, and have every allowance.
func TestClientBehindProxies(t *testing.T) {
	p := proxies{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/16")}
	for _, c := range []struct {
		peer      string
		forwarded []string
		client    string
		via       string
	}{
		{"192.0.2.1:5", nil, "192.0.2.1", ""},
		{"192.0.2.1:5", []string{"127.0.0.1"}, "192.0.2.1", ""}, // no proxy of ours
		{"10.0.0.1:5", nil, "10.0.0.1", "10.0.0.1"},
		{"10.0.0.1:5", []string{"198.51.100.7"}, "198.51.100.7", "10.0.0.1"},
		{"10.0.0.1:5", []string{"127.0.0.1, 198.51.100.7"}, "198.51.100.7", "10.0.0.1"},
		{"10.0.0.1:5", []string{"127.0.0.1", "198.51.100.7"}, "198.51.100.7", "10.0.0.1"},
		{"10.0.0.1:5", []string{"127.0.0.1, 198.51.100.7, 10.9.9.9"}, "198.51.100.7", "10.0.0.1"},
		{"10.0.0.1:5", []string{"10.1.1.1, 10.9.9.9"}, "10.1.1.1", "10.0.0.1"},
		{"10.0.0.1:5", []string{"127.0.0.1, rubbish, 10.9.9.9"}, "10.9.9.9", "10.0.0.1"},
		{"10.0.0.1:5", []string{"127.0.0.1, "}, "10.0.0.1", "10.0.0.1"},
		{"10.0.0.1:5", []string{"198.51.100.7:4711"}, "198.51.100.7", "10.0.0.1"},
		{"[fd00::1]:5", []string{"[2001:db8::1]:99"}, "2001:db8::1", "fd00::1"},
		{"[fd00::1]:5", []string{"[2001:db8::1]"}, "2001:db8::1", "fd00::1"},
		{"[::ffff:10.0.0.1]:5", []string{"::ffff:198.51.100.7"}, "198.51.100.7", "10.0.0.1"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = c.peer
		for _, f := range c.forwarded {
			r.Header.Add("X-Forwarded-For", f)
		}
		client, via := p.clientOf(r)
		if client.String() != c.client || (c.via == "") == via.IsValid() || c.via != "" && via.String() != c.via {
			t.Errorf("%s, %q: client %s via %s", c.peer, c.forwarded, client, via)
		}
	}
}

// FuzzForwarded: whatever a client writes into the headers, it is not taken for the machine itself, for a proxy, or for
// anybody but whom a trusted proxy has named last.
func FuzzForwarded(f *testing.F) {
	for _, s := range []string{"", "127.0.0.1", "10.0.0.1", "::1, 10.0.0.2", "a,b", "[::1]:80", "fe80::1%eth0,,"} {
		f.Add(s)
	}
	p := proxies{netip.MustParsePrefix("10.0.0.0/8")}
	f.Fuzz(func(t *testing.T, text string) {
		r := &http.Request{Header: http.Header{"X-Forwarded-For": {text}}, RemoteAddr: "192.0.2.1:5"}
		if client, via := p.clientOf(r); client.String() != "192.0.2.1" || via.IsValid() {
			t.Fatalf("%q from a stranger: %s via %s", text, client, via)
		}
		r.RemoteAddr = "10.0.0.1:5"
		r.Header["X-Forwarded-For"] = []string{text, "198.51.100.7"} // what a proxy adds
		if client, via := p.clientOf(r); client.String() != "198.51.100.7" || via.String() != "10.0.0.1" {
			t.Fatalf("%q through a proxy: %s via %s", text, client, via)
		}
		r.Header["X-Forwarded-For"] = []string{text + ",198.51.100.7"}
		if client, _ := p.clientOf(r); client.String() != "198.51.100.7" {
			t.Fatalf("%q through a proxy: %s", text, client)
		}
		if client, _ := p.clientOf(&http.Request{Header: http.Header{"X-Forwarded-For": {text}},
			RemoteAddr: "10.0.0.1:5"}); !client.IsValid() || client.Zone() != "" ||
			!strings.Contains(text, ".") && !strings.Contains(text, ":") && client.String() != "10.0.0.1" {
			t.Fatalf("%q: %s", text, client)
		}
	})
}
