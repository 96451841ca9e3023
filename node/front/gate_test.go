package front

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func asked(host, peer, path string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Host, r.RemoteAddr = host, peer
	return r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey,
		net.Addr(&net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 8080})))
}

func TestGateHost(t *testing.T) {
	m, err := NewMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	g := NewGate(GateOptions{Names: []string{"deckle.example"}, Metrics: m,
		Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	for i, c := range []struct {
		host, peer string
		forwarded  string
		good       bool
	}{
		{"192.0.2.7:8080", "203.0.113.1:1", "", true},
		{"evil.example", "203.0.113.1:1", "", false},
		{"evil.example", "127.0.0.1:1", "", false},                // a browser on this machine, too
		{"deckle.example", "203.0.113.1:1", "evil.example", true}, // a stranger's word about its host does not count
		{"evil.example", "203.0.113.1:1", "deckle.example", false},
		{"192.0.2.7", "10.0.0.1:1", "deckle.example", true},
		{"192.0.2.7", "10.0.0.1:1", "evil.example", false},
		{"192.0.2.7", "10.0.0.1:1", "deckle.example, evil.example", false},
		{"evil.example", "10.0.0.1:1", "deckle.example", false}, // the page could have set the header itself
	} {
		r := asked(c.host, c.peer, "/")
		if c.forwarded != "" {
			r.Header.Set("X-Forwarded-Host", c.forwarded)
		}
		_, _, leave, refused := g.Enter(r)
		if (refused == nil) != c.good || refused != nil && refused.Why != WhyHost {
			t.Errorf("%d: %+v", i, refused)
		}
		if leave != nil {
			leave()
		}
	}
	if n := testutil.ToFloat64(m.refused.WithLabelValues(WhyHost)); n != 6 {
		t.Errorf("%v refusals are counted", n)
	}
}

func TestGateBase(t *testing.T) {
	g := NewGate(GateOptions{Base: "/deckle/"})
	for path, want := range map[string]string{
		"/deckle/livez": "/livez /livez", "/deckle": " ", "/deckle/": "/ /", "/livez": "/livez /livez", "/": "/ /",
		"/decklex": "/decklex /decklex", "/deckle/api/session/a%2Fb": "/api/session/a/b /api/session/a%2Fb",
		"/deckle/deckle/x": "/deckle/x /deckle/x",
	} {
		v, in, leave, refused := g.Enter(asked("localhost", "127.0.0.1:1", path))
		if refused != nil {
			t.Fatal(refused)
		}
		leave()
		if got := in.URL.Path + " " + in.URL.EscapedPath(); got != want ||
			(v.Base == "/deckle") != (strings.HasPrefix(path, "/deckle/") || path == "/deckle") {
			t.Errorf("%s: %s, base %q", path, got, v.Base)
		}
	}
}

// However many requests come, a bounded number is worked on; one client has a part of the places, and what is dear has
// few. A slow reader of answers holds its own place only.
func TestGateBusy(t *testing.T) {
	g := NewGate(GateOptions{})
	var leaves []func()
	enter := func(peer string) *Refusal {
		_, _, leave, refused := g.Enter(asked("localhost", peer, "/"))
		if refused == nil {
			leaves = append(leaves, leave)
		}
		return refused
	}
	for range clientRequestsMax {
		if r := enter("10.0.0.1:1"); r != nil {
			t.Fatal(r)
		}
	}
	if r := enter("10.0.0.1:2"); r == nil || r.Why != WhyRate || r.Retry <= 0 {
		t.Errorf("%+v", r)
	}
	for i := range requestsMax - clientRequestsMax {
		if r := enter(fmt.Sprintf("10.0.1.%d:1", i)); r != nil {
			t.Fatal(i, r)
		}
	}
	if enter("10.0.2.1:1") == nil {
		t.Error("no bound for all together")
	}
	for _, leave := range leaves {
		leave()
		leave() // counted once
	}
	if g.busy != 0 || len(g.of) != 0 {
		t.Errorf("%d busy, %v", g.busy, g.of)
	}
	var dones []func()
	for i := range heavyMax {
		done, r := g.Take(Who{Name: fmt.Sprint(i)}, Heavy)
		if r != nil {
			t.Fatal(r)
		}
		dones = append(dones, done)
	}
	if _, r := g.Take(Who{Name: "one more"}, Heavy); r == nil {
		t.Error("no bound for what is dear")
	}
	dones[0]()
	if _, r := g.Take(Who{Name: "later"}, Heavy); r != nil {
		t.Error(r)
	}
}

// An address that floods is refused before anything is looked up, whoever it says it is.
func TestGateFlood(t *testing.T) {
	now := time.Unix(1000, 0)
	g := NewGate(GateOptions{Now: func() time.Time { return now }})
	n := 0
	for ; ; n++ {
		_, _, leave, refused := g.Enter(asked("localhost", "[2001:db8::1]:1", "/"))
		if refused != nil {
			break
		}
		leave()
	}
	if _, burst := everything.Limit(); n != int(burst) {
		t.Errorf("%d requests", n)
	}
	if _, _, _, refused := g.Enter(asked("localhost", "[2001:db8::2]:1", "/")); refused == nil {
		t.Error("another address of the same network goes on")
	}
	if _, _, _, refused := g.Enter(asked("localhost", "[2001:db8:0:1::1]:1", "/")); refused != nil {
		t.Error("another network waits")
	}
}
