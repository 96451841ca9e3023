package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"deckle/node"
	"deckle/node/config"
)

// nodeAPI is the HTTP interface of a running node.
type nodeAPI struct {
	config, address, ca, tokenFile string
	patience                       time.Duration // for an answer; default 30 s
}

// flags adds the flags that say where the node is.
func (a *nodeAPI) flags(cmd *cobra.Command) {
	cmd.PersistentFlags().StringVarP(&a.config, "config", "c", "",
		"configuration of the node on this machine, for its http block")
	a.addressFlags(cmd)
}

// addressFlags adds those that --config may be without.
func (a *nodeAPI) addressFlags(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.StringVar(&a.address, "address", "",
		"HOST:PORT of its HTTP interface, instead of --config; https://HOST:PORT for TLS (default 127.0.0.1:8080)")
	f.StringVar(&a.ca, "ca", "", "with --address: ask over TLS, and believe the CAs of this PEM file only")
	f.StringVar(&a.tokenFile, "token-file", "",
		"file with the token to show (default: with --config, that of the node on this machine)")
}

// target is where and how to ask.
type target struct {
	url   string // scheme, host and port
	tls   *tls.Config
	token string // "": none
}

func (a *nodeAPI) target() (t target, err error) {
	if a.tokenFile != "" {
		text, err := os.ReadFile(a.tokenFile)
		if err != nil {
			return t, usagef("--token-file: %w", err)
		}
		t.token = strings.TrimSpace(string(text))
	}
	listen, scheme := a.address, "http"
	switch {
	case a.ca != "" && a.address == "":
		return t, usageError{errors.New("--ca is for --address; with --config the certificate is that of http.tls")}
	case a.ca != "":
		listen = strings.TrimPrefix(listen, "https://")
		pool := x509.NewCertPool()
		text, err := os.ReadFile(a.ca)
		if err != nil {
			return t, usagef("--ca: %w", err)
		}
		if !pool.AppendCertsFromPEM(text) {
			return t, usagef("--ca: %s has no PEM certificate", a.ca)
		}
		scheme, t.tls = "https", &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	case strings.HasPrefix(listen, "https://"):
		listen, scheme, t.tls = listen[len("https://"):], "https", &tls.Config{MinVersion: tls.VersionTLS12}
	case listen == "":
		listen = "127.0.0.1:8080"
		if a.config == "" {
			break
		}
		cfg, err := loadConfig(a.config)
		if err != nil {
			return t, err
		}
		if cfg.HTTP.Auth != nil && t.token == "" {
			if t.token, err = node.LocalToken(cfg.DataDir); err != nil {
				return t, err
			}
		}
		if listen = cfg.HTTP.Listen; cfg.HTTP.TLS == nil {
			break
		}
		scheme = "https"
		if t.tls, err = exactly(cfg.HTTP.TLS); err != nil {
			return t, err
		}
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return t, usagef("address %q: %w", listen, err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() { // it listens on loopback, too
		host = "127.0.0.1"
	}
	here := host == "localhost" || net.ParseIP(host).IsLoopback()
	if a.address != "" && t.token != "" && scheme == "http" && !here {
		return t, usagef("a token is not sent to %s without TLS: give --ca FILE, or --address https://%s", host,
			net.JoinHostPort(host, port))
	}
	t.url = scheme + "://" + net.JoinHostPort(host, port)
	return t, nil
}

// exactly trusts the one certificate that a node on this machine shows, whatever names it has, whoever has signed it.
func exactly(t *config.TLS) (*tls.Config, error) {
	text, err := os.ReadFile(t.Cert)
	if err != nil {
		return nil, fmt.Errorf("http.tls.cert: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("http.tls.cert: %s has no PEM certificate", t.Cert)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection compares the certificate itself
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 || !bytes.Equal(s.PeerCertificates[0].Raw, block.Bytes) {
				return fmt.Errorf("another certificate than that of http.tls.cert (%s); if it has just been changed, "+
					"try again in ten seconds", t.Cert)
			}
			return nil
		}}, nil
}

// errTooMany is wrapped by the error of a request that came too soon after others.
var errTooMany = errors.New("too many requests")

// patiently asks again where the node says that this was one request too many.
func (a *nodeAPI) patiently(ctx context.Context, ask func() error) error {
	for {
		err := ask()
		if !errors.Is(err, errTooMany) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// do sends a request and decodes a good answer into out.
func (a *nodeAPI) do(ctx context.Context, method, path string, body []byte, out any) error {
	text, _, err := a.ask(ctx, method, path, body)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("the node's answer: %w", err)
	}
	return nil
}

// ask sends a request and returns a good answer.
func (a *nodeAPI) ask(ctx context.Context, method, path string, body []byte) ([]byte, http.Header, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(a.patience, 30*time.Second))
	defer cancel()
	resp, err := a.open(ctx, method, path, body)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, nil, fmt.Errorf("the node's answer: %w", err)
	}
	return text, resp.Header, nil
}

// open sends a request and returns a good answer before it has been read. The caller closes its body.
func (a *nodeAPI) open(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	t, err := a.target()
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, t.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
		req.Host = "localhost" // whatever http.listen calls this machine
	}
	if t.token != "" {
		req.Header.Set("Authorization", "Bearer "+t.token)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: t.tls}}).Do(req)
	if err != nil {
		return nil, fmt.Errorf("the node does not answer: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("the node's answer: %w", err)
	}
	var problem struct {
		Detail string `json:"detail"`
	}
	if json.Unmarshal(text, &problem) != nil || problem.Detail == "" {
		return nil, fmt.Errorf("%s %s: %s", method, t.url+path, resp.Status)
	}
	if resp.StatusCode == http.StatusTooManyRequests {
		return nil, fmt.Errorf("%w: %s", errTooMany, problem.Detail)
	}
	return nil, errors.New(problem.Detail)
}
