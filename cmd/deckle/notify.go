package main

import (
	"net"
	"os"
)

// serviceManager returns what tells the service manager that has started the process how it is, by the protocol of
// sd_notify(3): lines of NAME=value in a datagram to the socket that NOTIFY_SOCKET names. Without one it is nil. Where
// nobody takes the datagram nothing happens: the node is no worse for that.
func serviceManager() func(state string) {
	path := os.Getenv("NOTIFY_SOCKET")
	_ = os.Unsetenv("NOTIFY_SOCKET") // what this process starts is no service of its own
	if path == "" {
		return nil
	}
	return func(state string) {
		c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"}) // @ is the abstract space
		if err != nil {
			return
		}
		_, _ = c.Write([]byte(state))
		_ = c.Close()
	}
}
