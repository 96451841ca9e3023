package front

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"
)

// GateOptions say who may ask, and how.
type GateOptions struct {
	// Names are the hosts, with or without port, under which the server may be asked, beside localhost, loopback
	// addresses and the address that has taken a connection. Own, if set, knows further ones.
	Names []string
	Own   func(name string) bool
	// Base is the path before all others under which a proxy shows the server: "" or "/deckle".
	Base string
	// Proxies are the networks whose X-Forwarded-For and X-Forwarded-Host are believed.
	Proxies []netip.Prefix
	Now     func() time.Time // default time.Now
	Metrics *Metrics         // may be nil
}

// How many requests are answered at a time, of everybody and of one client.
const (
	requestsMax       = 64
	clientRequestsMax = 16
	heavyMax          = 4 // requests of class Heavy
)

// Gate judges requests before anybody looks at what they ask for. Its methods are safe for concurrent use.
type Gate struct {
	base    string
	hosts   *hosts
	proxies proxies
	rates   *rates
	metrics *Metrics

	mu    sync.Mutex
	busy  int
	of    map[netip.Addr]int // requests under way, by client
	heavy int
}

// NewGate returns a gate.
func NewGate(o GateOptions) *Gate {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Gate{base: strings.TrimSuffix(o.Base, "/"), hosts: newHosts(o.Names, o.Own), proxies: o.Proxies,
		rates: newRates(o.Now), metrics: o.Metrics, of: map[netip.Addr]int{}}
}

// Trusted says whether an address is a trusted proxy's.
func (g *Gate) Trusted(a netip.Addr) bool { return g.proxies.trusted(a) }

// Metrics returns the figures of the gate, nil if there are none.
func (g *Gate) Metrics() *Metrics { return g.metrics }

// Visit is what is known of a request before its path is looked up.
type Visit struct {
	Client netip.Addr // who asks: the other end or, behind trusted proxies, whom they name
	Via    netip.Addr // the trusted proxy that has sent the request; the zero Addr if none has
	Base   string     // the base path, if it was asked under it
}

// Refusal says why a request is not answered.
type Refusal struct {
	Why    string // WhyHost or WhyRate
	Detail string
	Retry  time.Duration // after how long to try again; 0: it will not help
}

// Enter judges a request, and returns it with the base path taken from its URL. If it is not refused, leave must be
// called when it has been answered.
func (g *Gate) Enter(r *http.Request) (v Visit, in *http.Request, leave func(), refused *Refusal) {
	v.Client, v.Via = g.proxies.clientOf(r)
	client := Client(v.Client)
	if wait := g.rates.take(Who{Addr: client}, everything); wait > 0 {
		return v, r, nil, g.tooMany(wait)
	}
	local := localOf(r)
	names := []string{r.Host}
	if v.Via.IsValid() {
		for _, list := range r.Header.Values("X-Forwarded-Host") {
			names = append(names, strings.Split(list, ",")...)
		}
	}
	for _, n := range names {
		if !g.hosts.allowed(strings.TrimSpace(n), local) {
			g.metrics.Refused(WhyHost)
			return v, r, nil, &Refusal{Why: WhyHost, Detail: fmt.Sprintf("this node is not known as %.100q; "+
				"http.hosts lists the names under which it may be asked", n)}
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.busy >= requestsMax || g.of[client] >= clientRequestsMax {
		return v, r, nil, g.tooMany(time.Second)
	}
	g.busy++
	g.of[client]++
	leave = sync.OnceFunc(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.busy--
		if g.of[client]--; g.of[client] == 0 {
			delete(g.of, client)
		}
	})
	in, v.Base = g.strip(r)
	return v, in, leave, nil
}

// strip takes the base path from a request's URL. What comes without it is answered, too: probes, and proxies that take
// it away themselves.
func (g *Gate) strip(r *http.Request) (*http.Request, string) {
	path, ok := strings.CutPrefix(r.URL.Path, g.base)
	if g.base == "" || !ok || path != "" && path[0] != '/' {
		return r, ""
	}
	in := new(http.Request)
	*in = *r
	in.URL = new(url.URL)
	*in.URL = *r.URL
	in.URL.Path, in.URL.RawPath = path, strings.TrimPrefix(r.URL.RawPath, g.base)
	return in, g.base
}

// Take counts a request of a class, and says whether it is one too many. For Heavy, done must be called when it has
// been answered; it is never nil.
func (g *Gate) Take(who Who, c Class) (done func(), refused *Refusal) {
	if wait := g.rates.take(who, c); wait > 0 {
		return nil, g.tooMany(wait)
	}
	if c != Heavy {
		return func() {}, nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.heavy >= heavyMax {
		return nil, g.tooMany(time.Second)
	}
	g.heavy++
	return sync.OnceFunc(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.heavy--
	}), nil
}

func (g *Gate) tooMany(wait time.Duration) *Refusal {
	g.metrics.Refused(WhyRate)
	return &Refusal{Why: WhyRate, Detail: "too many requests of this client, or of all together", Retry: wait}
}
