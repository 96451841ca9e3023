package front

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func serve(t *testing.T, s Server) net.Addr {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	s.Logger = slog.New(slog.DiscardHandler)
	go func() { done <- Serve(ctx, ln, s) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return ln.Addr()
}

// ends waits for the server to end a connection, and returns how long that took.
func ends(t *testing.T, c net.Conn, atMost time.Duration) time.Duration {
	t.Helper()
	begin := time.Now()
	_ = c.SetReadDeadline(begin.Add(atMost))
	if _, err := io.Copy(io.Discard, c); err != nil {
		if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
			t.Errorf("it is still open after %v", atMost)
		}
	}
	return time.Since(begin)
}

// patience is how long a test waits for what should take less than a second.
const patience = 20 * time.Second

// Whoever sends a byte now and then, or nothing, is gone after a bounded time: else a few thousand of them take every
// connection there is.
func TestSlowClients(t *testing.T) {
	const header, body = 300 * time.Millisecond, 600 * time.Millisecond
	got := make(chan error, 1)
	h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			_, err := io.ReadAll(r.Body)
			got <- err
		}
	})
	addr := serve(t, Server{Header: header, Body: body, Handler: h}).String()
	// Where bodies have all the time in the world, a header has not.
	patient := serve(t, Server{Header: header, Body: time.Hour, Handler: h}).String()
	dial := func(t *testing.T, addr string) net.Conn {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	t.Run("nothing", func(t *testing.T) {
		if d := ends(t, dial(t, patient), patience); d < header/2 {
			t.Errorf("ended after %v", d)
		}
	})
	t.Run("header", func(t *testing.T) {
		c := dial(t, patient)
		go func() {
			for _, b := range []byte("GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 1000)) {
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		}()
		ends(t, c, patience)
	})
	t.Run("body", func(t *testing.T) {
		c := dial(t, addr)
		_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
		go func() {
			for range 1000 {
				if _, err := c.Write([]byte("x")); err != nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		}()
		ends(t, c, patience)
		if err := <-got; err == nil {
			t.Error("the handler has the whole body")
		}
	})
}

// A client that does not read its answer is gone, too, and its handler with it.
func TestSlowReader(t *testing.T) {
	gone := make(chan error, 1)
	addr := serve(t, Server{Answer: 300 * time.Millisecond, Handler: http.HandlerFunc(
		func(w http.ResponseWriter, _ *http.Request) {
			var err error
			for b := make([]byte, 1<<20); err == nil; {
				_, err = w.Write(b)
			}
			gone <- err
		})})
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	select {
	case <-gone:
	case <-time.After(patience):
		t.Error("the handler still writes")
	}
}

func TestLargeHeader(t *testing.T) {
	addr := serve(t, Server{Handler: http.NotFoundHandler()})
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go func() {
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\nX: "+strings.Repeat("x", 2*headerMax)+"\r\n\r\n")
	}()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("%+v, %v", resp, err)
	}
}

func selfSigned(t *testing.T, serial int64) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "x"},
		DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// A certificate that is changed is what the next connection gets, by HTTP/1 and by HTTP/2 alike: what a callback gives
// must offer HTTP/2 as well, or it would be gone without a word.
func TestTLS(t *testing.T) {
	certs := []tls.Certificate{selfSigned(t, 1), selfSigned(t, 2)}
	use := 0
	config := &tls.Config{Certificates: certs[:1]}
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return &tls.Config{Certificates: certs[use : use+1], NextProtos: config.NextProtos}, nil
	}
	addr := serve(t, Server{TLS: config, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Proto)
	})})
	for ; use < 2; use++ {
		for _, h2 := range []bool{true, false} {
			tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: h2}
			resp, err := (&http.Client{Transport: tr}).Get("https://" + addr.String())
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			want := map[bool]string{true: "HTTP/2.0", false: "HTTP/1.1"}[h2]
			if n := resp.TLS.PeerCertificates[0].SerialNumber.Int64(); string(body) != want || n != int64(use+1) {
				t.Errorf("%s with certificate %d, want %s with %d", body, n, want, use+1)
			}
			tr.CloseIdleConnections()
		}
	}
	resp, err := http.Get("http://" + addr.String())
	if err != nil || resp.StatusCode != http.StatusBadRequest {
		t.Errorf("plain HTTP: %+v, %v", resp, err)
	}
}

func TestServeEndsInOrder(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	entered := make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-ctx.Done() // the end comes while the request is under way
		_, _ = io.WriteString(w, "finished")
	})
	go func() { done <- Serve(ctx, ln, Server{Handler: h, Logger: slog.New(slog.DiscardHandler)}) }()
	go func() {
		<-entered
		cancel()
	}()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if string(body) != "finished" {
		t.Errorf("body %q", body)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	// A listener that fails ends Serve with the error.
	if err := Serve(t.Context(), ln, Server{Handler: h, Logger: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("no error from a closed listener")
	}
}
