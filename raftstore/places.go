package raftstore

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// The places of incoming connections. Before a connection has shown who it is, it has one of strangerPlaces, and at
// most placesPerAddress have the same address; from an address of a member it has one of memberPlaces instead, since a
// source address of TCP cannot be made up from afar: otherwise a few dozen slow strangers would keep members from
// coming back after a cut. Then it has one of its peer's. A new connection is always let in: the oldest of the same
// kind gives way.
const (
	strangerPlaces   = 64
	placesPerAddress = 16
	// memberPlaces, and peerPlacesPerShard for each shard, so that on one machine all of a node's connections may come
	// back at once.
	memberPlaces = 32
	// peerPlaces and peerPlacesPerShard are those of one peer: three per group are ordinary.
	peerPlaces, peerPlacesPerShard = 16, 8
	// nobodyPlaces are those of all connections that do not tell their peer: those without TLS.
	nobodyPlaces = 4096
	// provenFor is how long an address counts as a member's after a member has shown itself there, and keptAddresses
	// how many such addresses are kept.
	provenFor     = 24 * time.Hour
	keptAddresses = 64
)

// places are the connections that come in, by what they are known to be.
type places struct {
	full func() // is called when a connection has to give way

	mu      sync.Mutex
	unknown [2]pool                  // strangers', members'
	peers   map[string]*pool         // by peer
	members map[netip.Addr]time.Time // addresses of members, and when they were last proven; zero: configured
	limit   int                      // of one peer
}

// place is one connection's.
type place struct {
	conn net.Conn
	addr netip.Addr
	in   *pool
}

// pool are connections of one kind, the oldest first.
type pool struct {
	limit, perAddress int
	list              []*place
}

func newPlaces(o *Options, full func()) *places {
	p := &places{
		full: full, peers: map[string]*pool{}, members: map[netip.Addr]time.Time{},
		limit: peerPlaces + peerPlacesPerShard*o.Shards,
	}
	p.unknown[0] = pool{limit: strangerPlaces, perAddress: placesPerAddress}
	members := memberPlaces + peerPlacesPerShard*o.Shards
	p.unknown[1] = pool{limit: members, perAddress: members}
	for _, n := range o.Nodes {
		if host, _, err := net.SplitHostPort(n.Addr); err == nil {
			if a, err := netip.ParseAddr(host); err == nil {
				p.members[a.Unmap()] = time.Time{}
			}
		}
	}
	return p
}

// enter gives a connection a place before it has shown who it is.
func (p *places) enter(c net.Conn) *place {
	at := &place{conn: c, addr: addressOf(c.RemoteAddr())}
	p.mu.Lock()
	kind := 0
	if when, ok := p.members[at.addr]; ok && (when.IsZero() || time.Since(when) < provenFor) {
		kind = 1
	}
	gone := p.unknown[kind].add(at)
	p.mu.Unlock()
	p.end(gone)
	return at
}

// known moves a connection to the places of its peer, nobody for one that does not tell. It returns false if the
// connection had to give way already.
func (p *places) known(at *place, peer string) bool {
	p.mu.Lock()
	if !at.in.remove(at) {
		p.mu.Unlock()
		return false
	}
	to := p.peers[peer]
	if to == nil {
		to = &pool{limit: p.limit, perAddress: p.limit}
		if peer == nobody {
			to = &pool{limit: nobodyPlaces, perAddress: nobodyPlaces}
		}
		p.peers[peer] = to
	}
	gone := to.add(at)
	p.mu.Unlock()
	p.end(gone)
	return true
}

// leave gives a connection's place back.
func (p *places) leave(at *place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at.in.remove(at)
}

// proven notes that a member has shown itself at an address.
func (p *places) proven(addr net.Addr) {
	a := addressOf(addr)
	if !a.IsValid() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if when, ok := p.members[a]; ok && when.IsZero() {
		return
	}
	p.members[a] = time.Now()
	for len(p.members) > keptAddresses {
		var oldest netip.Addr
		for b, when := range p.members {
			if !when.IsZero() && (!oldest.IsValid() || when.Before(p.members[oldest])) {
				oldest = b
			}
		}
		delete(p.members, oldest)
	}
}

// end closes a connection that has given way.
func (p *places) end(gone *place) {
	if gone != nil {
		p.full()
		_ = gone.conn.Close()
	}
}

// add puts a connection at the end, and returns the one that has to give way, if any: the oldest of the same address if
// that has too many, else the oldest.
func (p *pool) add(at *place) (gone *place) {
	alike := 0
	for _, o := range p.list {
		if at.addr.IsValid() && o.addr == at.addr {
			if alike++; alike == 1 {
				gone = o
			}
		}
	}
	switch {
	case alike >= p.perAddress:
	case len(p.list) >= p.limit:
		gone = p.list[0]
	default:
		gone = nil
	}
	if gone != nil {
		p.remove(gone)
	}
	at.in = p
	p.list = append(p.list, at)
	return gone
}

func (p *pool) remove(at *place) bool {
	i := slices.Index(p.list, at)
	if i < 0 {
		return false
	}
	p.list = slices.Delete(p.list, i, i+1)
	return true
}

// addressOf returns the IP address of a connection's end, the zero Addr if it has none.
func addressOf(a net.Addr) netip.Addr {
	if a == nil {
		return netip.Addr{}
	}
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}
