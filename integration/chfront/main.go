//go:build cgo && linux

package main

import (
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
)

func main() {
	log.SetFlags(log.LstdFlags | log.LUTC | log.Lmicroseconds)
	log.SetPrefix("chfront: ")
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	lib := flag.String("lib", "libchdb.so", "path of libchdb.so")
	dir := flag.String("path", "chdata", "data folder")
	addr := flag.String("addr", "127.0.0.1:0", "listen address")
	addrFile := flag.String("addr-file", "", "file that gets the address once it is served")
	user := flag.String("user", "default", "user")
	password := flag.String("password", "", "password")
	passwordFile := flag.String("password-file", "", "file with the password, read anew for each connection")
	tlsAddr := flag.String("tls-addr", "", "another listen address, with TLS")
	cert := flag.String("tls-cert", "", "certificate for it")
	key := flag.String("tls-key", "", "its key")
	sessions := flag.Int("sessions", 8, "how many queries run at a time")
	verbose := flag.Bool("v", false, "log every query")
	flag.Parse()

	data, err := filepath.Abs(*dir)
	if err != nil {
		return err
	}
	spool := filepath.Join(data, "chfront-spool")
	if err := os.RemoveAll(spool); err != nil { // left by a process that was killed
		return err
	}
	if err := os.MkdirAll(spool, 0o700); err != nil {
		return err
	}
	if *sessions < 1 {
		return errors.New("-sessions must be at least 1")
	}
	eng, err := openEngine(*lib, data, *sessions)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", *addr)
	if err != nil {
		eng.close()
		return err
	}
	listeners := []net.Listener{ln}
	if *tlsAddr != "" {
		secure, err := listenTLS(*tlsAddr, *cert, *key)
		if err != nil {
			eng.close()
			return err
		}
		listeners = append(listeners, secure)
	}
	if *addrFile != "" {
		if err := writeFileAtomic(*addrFile, ln.Addr().String()); err != nil {
			return err
		}
	}
	fmt.Printf("serving %s\n", ln.Addr())
	log.Printf("serving on %s, data in %s", ln.Addr(), data)

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		s := <-stop
		log.Printf("%v: closing", s)
		for _, l := range listeners {
			_ = l.Close()
		}
	}()

	fr := &front{eng, spool, *user, *password, *passwordFile, *verbose}
	conns := &connSet{open: map[net.Conn]bool{}}
	var accepting sync.WaitGroup
	for _, l := range listeners {
		accepting.Go(func() { fr.accept(l, conns) })
	}
	accepting.Wait()
	eng.close() // after the queries that are running; their answers may still be sent
	conns.closeAll()
	log.Print("closed")
	return nil
}

func listenTLS(addr, cert, key string) (net.Listener, error) {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	return tls.Listen("tcp", addr, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})
}

// accept serves the connections of a listener until it is closed.
func (f *front) accept(ln net.Listener, conns *connSet) {
	for {
		c, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			log.Printf("accept: %v", err)
			continue
		}
		conns.add(c)
		go func() {
			defer conns.remove(c)
			if err := f.serve(c); !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				log.Printf("%s: %v", c.RemoteAddr(), err)
			}
		}()
	}
}

// connSet holds the open connections, so that they can be closed at the end.
type connSet struct {
	mu   sync.Mutex
	open map[net.Conn]bool
}

func (s *connSet) add(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[c] = true
}

func (s *connSet) remove(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
	_ = c.Close()
}

func (s *connSet) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		_ = c.Close()
	}
}

func writeFileAtomic(path, text string) error {
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
