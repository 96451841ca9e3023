package simnet

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

type Network struct {
	vn  kfake.VirtualNetwork
	mu  sync.Mutex
	con map[string]map[net.Conn]bool
	lns map[string][]net.Listener
}

func New(func(int) int) *Network {
	return &Network{con: map[string]map[net.Conn]bool{}, lns: map[string][]net.Listener{}}
}
func (n *Network) Listen(host, addr string) (net.Listener, error) {
	ln, err := n.vn.Listen("tcp", addr)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lns[host] = append(n.lns[host], ln)
	return ln, err
}
func (n *Network) Dial(ctx context.Context, from, addr string) (net.Conn, error) {
	c, err := n.vn.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.con[from] == nil {
		n.con[from] = map[net.Conn]bool{}
	}
	n.con[from][c] = true
	return c, nil
}
func (n *Network) Cut(a, b string)                               {}
func (n *Network) Heal(a, b string)                              {}
func (n *Network) Reset(a, b string)                             {}
func (n *Network) Freeze(a string)                               {}
func (n *Network) Thaw(a string)                                 {}
func (n *Network) Delay(a, b string, base, jitter time.Duration) {}
func (n *Network) Close()                                        {}
func (n *Network) Kill(a string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.con[a] {
		c.Close()
	}
	for _, l := range n.lns[a] {
		l.Close()
	}
	n.con[a], n.lns[a] = nil, nil
}

type Relay struct{}

func NewRelay(*Network, func(int) int) *Relay { return &Relay{} }
func (*Relay) Dial(ctx context.Context, from, addr string, dial func(context.Context, string) (net.Conn, error)) (net.Conn, error) {
	return dial(ctx, addr)
}
func (*Relay) Repeat(p float64, d time.Duration) {}
