package front

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// proxies are the networks of those who are believed about whom they speak for.
type proxies []netip.Prefix

func (p proxies) trusted(a netip.Addr) bool {
	for _, n := range p {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// clientOf returns who asks and, if a trusted proxy does it for them, that proxy. Of what proxies have written the last
// address counts that is no trusted proxy's: whatever stands before it is the client's own claim.
func (p proxies) clientOf(r *http.Request) (client, via netip.Addr) {
	peer := AddressOf(r.RemoteAddr)
	if !p.trusted(peer) {
		return peer, netip.Addr{}
	}
	client = peer
	list := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, text := range slices.Backward(list) {
		a := forwarded(strings.TrimSpace(text))
		if !a.IsValid() {
			break // what stands before something that cannot be read is nobody's word
		}
		client = a
		if !p.trusted(a) {
			break
		}
	}
	return client, peer
}

// forwarded reads one address of X-Forwarded-For: some proxies write its port, too.
func forwarded(text string) netip.Addr {
	a, err := netip.ParseAddr(text)
	if err != nil {
		if n := len(text); n > 1 && text[0] == '[' && text[n-1] == ']' {
			a, err = netip.ParseAddr(text[1 : n-1])
		} else {
			return AddressOf(text)
		}
	}
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap().WithZone("")
}

// Forwarded says whether a request has, or claims to have, come through a proxy.
func Forwarded(r *http.Request) bool {
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host"} {
		if len(r.Header.Values(name)) > 0 {
			return true
		}
	}
	return false
}
