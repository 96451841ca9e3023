package front

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// hosts are the names under which a server may be asked. Whoever points a name of their own at this address (DNS
// rebinding) has a browser that thinks their page and this server are one, so another name is refused.
type hosts struct {
	names map[string]bool        // as nameOf gives them
	own   func(name string) bool // further names; may be nil
}

func newHosts(names []string, own func(string) bool) *hosts {
	h := &hosts{names: map[string]bool{}, own: own}
	for _, n := range names {
		if n = nameOf(n); n != "" {
			h.names[n] = true
		}
	}
	return h
}

// allowed judges a Host header, or one of X-Forwarded-Host. local is the address that has taken the connection. A
// request without a host is none of a browser's.
func (h *hosts) allowed(host string, local netip.Addr) bool {
	name := nameOf(host)
	if name == "" || name == "localhost" || h.names[name] {
		return true
	}
	if a, err := netip.ParseAddr(name); err == nil {
		return a.IsLoopback() || local.IsValid() && a == local
	}
	return h.own != nil && h.own(name)
}

// nameOf returns the host of "host", "host:port" or "[host]:port" as it is compared: without port, brackets, zone and
// last dot, names in lower case, addresses in their usual form.
func nameOf(hostport string) string {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	if n := len(host); n > 1 && host[0] == '[' && host[n-1] == ']' {
		host = host[1 : n-1]
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap().WithZone("").String()
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// localOf returns the address that has taken a request's connection, the zero Addr if it is not known.
func localOf(r *http.Request) netip.Addr {
	if at, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		return AddressOf(at.String())
	}
	return netip.Addr{}
}
