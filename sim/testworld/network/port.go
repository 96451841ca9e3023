package network

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports of Listen lie below those that kernels give to outgoing connections and to listeners that ask for none.
const (
	firstPort = 10_000
	lastPort  = 32_000
)

// Listen listens on a port of 127.0.0.1 that stays its caller's while it is closed for a time, as that of a node does
// which is restarted: nobody is given it who does not ask for it by number. (Of a port that the kernel has chosen, any
// connection may be given the number in between.)
func Listen() (ln net.Listener, err error) {
	for range 100 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		var e error
		if ln, e = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); e == nil {
			return ln, nil
		}
		err = errors.Join(err, e)
	}
	return nil, err
}
