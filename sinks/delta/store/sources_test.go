package store

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"
)

// giver gives temporary keys, as a security token service and as a metadata service, and answers every other request as
// a store without objects. Its n-th keys are AKn.
type giver struct {
	mu     sync.Mutex
	n      int
	life   time.Duration
	down   bool
	asked  []string // what it was asked for keys with
	signed string   // the access key and the session token of the last request for an object
}

// set changes g while it answers.
func (g *giver) set(change func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change()
}

// ServeHTTP implements http.Handler.
func (g *giver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	_, access, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	access, _, _ = strings.Cut(access, "/")
	end := time.Now().Add(g.life).UTC().Format(time.RFC3339)
	switch {
	case r.Method == http.MethodPost && g.down, r.URL.Path == "/instance" && g.down:
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(`<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error>` +
			"<Code>Down</Code><Message>down for the test</Message></Error></ErrorResponse>"))
	case r.Method == http.MethodPost:
		g.n++
		r.Body = io.NopCloser(bytes.NewReader(body))
		_ = r.ParseForm()
		what := r.Form.Get("Action")
		g.asked = append(g.asked, fmt.Sprint(access, " ", what, " ", r.Form.Get("RoleArn"), " ",
			r.Form.Get("WebIdentityToken"), " ", r.Form.Get("ExternalId")))
		fmt.Fprintf(w, `<%[1]sResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><%[1]sResult><Credentials>`+
			`<AccessKeyId>AK%[2]d</AccessKeyId><SecretAccessKey>SK%[2]d</SecretAccessKey><SessionToken>T%[2]d`+
			`</SessionToken><Expiration>%[3]s</Expiration></Credentials></%[1]sResult></%[1]sResponse>`, what, g.n, end)
	case r.URL.Path == "/instance":
		g.n++
		_ = json.NewEncoder(w).Encode(map[string]string{"AccessKeyId": fmt.Sprint("AK", g.n), "Code": "Success",
			"SecretAccessKey": fmt.Sprint("SK", g.n), "Token": fmt.Sprint("T", g.n), "Expiration": end})
	default:
		g.signed = strings.TrimSpace(access + " " + r.Header.Get("X-Amz-Security-Token"))
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte("<Error><Code>NoSuchKey</Code></Error>"))
	}
}

// with is what g was asked for keys with.
func (g *giver) with() (asked string) {
	g.set(func() { asked = strings.Join(g.asked, ";") })
	return asked
}

// bare takes away what the machine's environment says of S3, and gives it an empty home.
func bare(t *testing.T) (home string) {
	t.Helper()
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY",
		"AWS_SESSION_TOKEN", "MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD", "MINIO_ACCESS_KEY", "MINIO_SECRET_KEY",
		"AWS_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN",
		"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_REGION",
		"AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"} {
		t.Setenv(name, "")
	}
	home = t.TempDir()
	t.Setenv("HOME", home)
	return home
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func profile(name, access, secret string) string {
	return fmt.Sprintf("[%s]\naws_access_key_id = %s\naws_secret_access_key = %s\n", name, access, secret)
}

// used opens a store at g with keys, has it make a request, and returns the access key and the session token that the
// request had.
func used(t *testing.T, g *giver, url string, keys *Keys, tls func() *tls.Config) (string, error) {
	t.Helper()
	keys.Endpoint, keys.Region = url, "us-east-1"
	c, err := keys.Credentials()
	if err != nil {
		return "", err
	}
	s, err := NewS3(S3Options{Endpoint: url, Bucket: "lake", MaxRetries: 1, Credentials: c, TLS: tls})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	g.set(func() { g.signed = "" })
	_, err = s.Get(ctx, "x")
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.signed == "" {
		return "", err
	}
	return g.signed, nil
}

// Each source gives the keys that it has, a chain the first; where there are none no request is made without a
// signature, and the error says where none were.
func TestWhereKeysComeFrom(t *testing.T) {
	g := &giver{life: time.Hour}
	srv := httptest.NewServer(g)
	defer srv.Close()
	is := func(s string) func() string { return func() string { return s } }
	for _, row := range []struct {
		what string
		keys Keys
		set  func(home string)
		want string // access key, and session token
		err  string
	}{
		{"static", Keys{From: "static", AccessKey: is("a"), SecretKey: is("s")}, nil, "a", ""},
		{"static with a token", Keys{From: "static", AccessKey: is("a"), SecretKey: is("s"), SessionToken: is("t")},
			nil, "a t", ""},
		{"environment", Keys{From: "environment"}, func(string) {
			t.Setenv("AWS_ACCESS_KEY_ID", "e")
			t.Setenv("AWS_SECRET_ACCESS_KEY", "s")
			t.Setenv("AWS_SESSION_TOKEN", "et")
		}, "e et", ""},
		{"half of it", Keys{From: "environment"}, func(string) { t.Setenv("AWS_ACCESS_KEY_ID", "e") }, "",
			"environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY): has none"},
		{"MinIO's", Keys{From: "environment"}, func(string) {
			t.Setenv("MINIO_ROOT_USER", "m")
			t.Setenv("MINIO_ROOT_PASSWORD", "s")
		}, "m", ""},
		{"file", Keys{From: "file"}, func(home string) {
			write(t, filepath.Join(home, ".aws", "credentials"), profile("default", "f", "s"))
		}, "f", ""},
		{"another profile", Keys{From: "file", Profile: "p"}, func(home string) {
			write(t, filepath.Join(home, ".aws", "credentials"), profile("default", "f", "s")+profile("p", "g", "s"))
		}, "g", ""},
		{"no file", Keys{From: "file", File: "/does/not/exist"}, nil, "", "file: open /does/not/exist"},
		{"instance", Keys{From: "instance"}, func(string) {
			t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", srv.URL+"/instance")
		}, "AK1 T1", ""},
		{"chain: environment first", Keys{}, func(home string) {
			t.Setenv("AWS_ACCESS_KEY_ID", "e")
			t.Setenv("AWS_SECRET_ACCESS_KEY", "s")
			write(t, filepath.Join(home, ".aws", "credentials"), profile("default", "f", "s"))
		}, "e", ""},
		{"chain: then the file", Keys{From: "chain"}, func(home string) {
			write(t, filepath.Join(home, ".aws", "credentials"), profile("default", "f", "s"))
			t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", srv.URL+"/instance")
		}, "f", ""},
		{"chain: then a web identity", Keys{From: "chain"}, func(home string) {
			write(t, filepath.Join(home, "token"), " id\n")
			t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", filepath.Join(home, "token"))
			t.Setenv("AWS_ROLE_ARN", "role")
		}, "AK1 T1", ""},
		{"chain: then the instance", Keys{From: "chain"}, func(string) {
			t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", srv.URL+"/instance")
		}, "AK1 T1", ""},
		{"no token's file", Keys{From: "web_identity"}, nil, "", "set token_file"},
		{"an empty one", Keys{From: "web_identity", TokenFile: os.DevNull}, nil, "", "web_identity: " + os.DevNull +
			" is empty"},
		{"role, and nothing to ask with", Keys{From: "assume_role"}, nil, "", "assume_role: store: no S3 keys"},
		{"unknown", Keys{From: "x"}, nil, "", `cannot come from "x"`},
	} {
		home := bare(t)
		g.set(func() { g.n = 0 })
		if row.set != nil {
			row.set(home)
		}
		got, err := used(t, g, srv.URL, &row.keys, nil)
		if got != row.want || (err == nil) != (row.err == "") || err != nil && !strings.Contains(err.Error(), row.err) {
			t.Errorf("%s: %q, %v; want %q, %q", row.what, got, err, row.want, row.err)
		}
	}
}

// Who gives a role is told what it is asked for, and is verified by the same CA as the store.
func TestAssumedRole(t *testing.T) {
	bare(t)
	g := &giver{life: time.Hour}
	srv := httptest.NewTLSServer(g)
	defer srv.Close()
	known := x509.NewCertPool()
	known.AddCert(srv.Certificate())
	is := func(s string) func() string { return func() string { return s } }
	keys := Keys{From: "assume_role", AccessKey: is("a"), SecretKey: is("s"), RoleARN: "arn:x", ExternalID: "ext"}
	present := &tls.Config{RootCAs: known}
	got, err := used(t, g, srv.URL, &keys, func() *tls.Config { return present })
	if asked := g.with(); err != nil || got != "AK1 T1" || asked != "a AssumeRole arn:x  ext" {
		t.Errorf("%q, %v, asked %q", got, err, asked)
	}
	other := &tls.Config{RootCAs: x509.NewCertPool()}
	if got, err = used(t, g, srv.URL, &keys, func() *tls.Config { return other }); err == nil ||
		!strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("another CA: %q, %v", got, err)
	}
	write(t, filepath.Join(os.Getenv("HOME"), ".aws", "credentials"), profile("default", "f", "s"))
	keys.AccessKey, keys.SecretKey = nil, nil
	got, err = used(t, g, srv.URL, &keys, func() *tls.Config { return present })
	if asked := g.with(); err != nil || got != "AK2 T2" || !strings.Contains(asked, ";f AssumeRole") {
		t.Errorf("with the keys of a file: %q, %v, asked %q", got, err, asked)
	}
}

// Temporary keys are renewed before they end, with the token that the file has then. Those that are good outlive a
// failure of who gives them, and nobody is asked with every request meanwhile. After their end the error says why.
func TestKeysAreRenewed(t *testing.T) {
	bare(t)
	g := &giver{life: 100 * time.Second}
	srv := httptest.NewServer(g)
	defer srv.Close()
	file := filepath.Join(t.TempDir(), "token")
	write(t, file, "one")
	keys := &Keys{From: "web_identity", TokenFile: file, Endpoint: srv.URL}
	p, err := keys.provider()
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	now := start
	clock := func() time.Time { return now }
	p.now, p.list[0].Provider.(*credentials.STSWebIdentity).CurrentTime = clock, clock
	c := credentials.New(p)
	cc := &credentials.CredContext{Client: srv.Client(), Endpoint: srv.URL}
	ask := func(after time.Duration, want, fault string, calls int) {
		t.Helper()
		now = start.Add(after)
		before := g.with()
		v, err := c.GetWithContext(cc)
		asked := strings.Count(g.with(), ";") - strings.Count(before, ";")
		if before == "" && g.with() != "" {
			asked++
		}
		if v.AccessKeyID != want || (err == nil) != (fault == "") ||
			err != nil && !strings.Contains(err.Error(), fault) || asked != calls {
			t.Errorf("after %s: %q, %v, asked %d times; want %q, %q, %d", after, v.AccessKeyID, err, asked, want, fault,
				calls)
		}
	}
	down := func(down bool) { g.set(func() { g.down = down }) }
	ask(0, "AK1", "", 1)
	ask(79*time.Second, "AK1", "", 0)
	write(t, file, "two\n")
	down(true)
	ask(81*time.Second, "AK1", "", 0)
	down(false)
	ask(85*time.Second, "AK1", "", 0) // not at once again
	down(true)
	ask(102*time.Second, "", "web_identity: down for the test", 0)
	down(false)
	g.set(func() { g.life = 300 * time.Second })
	ask(103*time.Second, "AK2", "", 1)
	if got := g.with(); !strings.Contains(got, " one ") || !strings.HasSuffix(got, " two ") {
		t.Errorf("asked with %q", got)
	}
}

// AWS's file is read anew when its content changes, at most every ten seconds; one that is broken changes nothing.
func TestFileIsFollowed(t *testing.T) {
	home := bare(t)
	file := filepath.Join(home, ".aws", "credentials")
	write(t, file, profile("default", "one", "s"))
	p, err := (&Keys{From: "file"}).provider()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	p.list[0].Provider.(*fileKeys).now = func() time.Time { return now }
	c := credentials.New(p)
	ask := func(what, want string) {
		t.Helper()
		if v, err := c.GetWithContext(nil); err != nil || v.AccessKeyID != want {
			t.Errorf("%s: %q, %v, want %q", what, v.AccessKeyID, err, want)
		}
	}
	ask("at the start", "one")
	write(t, file, profile("default", "two", "s"))
	ask("at once", "one")
	now = now.Add(askAgain)
	ask("ten seconds later", "two")
	write(t, file, "[default]\naws_access_key_id = half")
	now = now.Add(askAgain)
	ask("half a file", "two")
	write(t, file, profile("default", "three", "s"))
	now = now.Add(askAgain)
	ask("whole again", "three")
}

// place is a source that has keys or not, and whose keys end at once.
type place struct {
	credentials.Provider
	key string
}

func (p *place) IsExpired() bool { return true }

func (p *place) RetrieveWithCredContext(*credentials.CredContext) (credentials.Value, error) {
	return credentials.Value{AccessKeyID: p.key, SecretAccessKey: p.key}, nil
}

// The place that had keys is asked alone from then on: a node whose role could not be had for a moment must not go on
// as whoever the environment or the file names.
func TestChainStays(t *testing.T) {
	first, second := &place{}, &place{key: "second"}
	s := newSources(source{"first", first}, source{"second", second})
	if v, err := s.RetrieveWithCredContext(nil); err != nil || v.AccessKeyID != "second" {
		t.Fatalf("%q, %v: the second place has keys", v.AccessKeyID, err)
	}
	first.key, second.key = "first", ""
	if v, err := s.RetrieveWithCredContext(nil); err == nil {
		t.Errorf("went on with keys of another place: %q", v.AccessKeyID)
	}
	second.key = "again"
	if v, err := s.RetrieveWithCredContext(nil); err != nil || v.AccessKeyID != "again" {
		t.Errorf("%q, %v: the second place has keys again", v.AccessKeyID, err)
	}
}

// Who gives keys for a store of AWS is AWS's own, in the store's region.
func TestAddressOfTheGiver(t *testing.T) {
	for _, row := range [][3]string{
		{"https://s3.eu-central-1.amazonaws.com", "", "https://sts.eu-central-1.amazonaws.com"},
		{"https://s3.cn-north-1.amazonaws.com.cn", "", "https://sts.eu-central-1.amazonaws.com.cn"},
		{"https://minio:9000", "", ""}, {"https://amazonaws.com.evil:1", "", ""}, {"https://xamazonaws.com", "", ""},
		{"https://s3.eu-central-1.amazonaws.com", "https://own", "https://own"},
	} {
		k := Keys{Endpoint: row[0], STSEndpoint: row[1], Region: "eu-central-1"}
		if got := k.sts(); got != row[2] {
			t.Errorf("%s: %q, want %q", row[0], got, row[2])
		}
	}
}

// What asks the store to encrypt goes with every put, plain or conditional; a key of ours goes with every read, too.
func TestEncryptionIsAskedFor(t *testing.T) {
	var last atomic.Pointer[http.Header]
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		last.Store(&r.Header)
		if r.Method == http.MethodGet {
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer srv.Close()
	known := x509.NewCertPool()
	known.AddCert(srv.Certificate())
	present := &tls.Config{RootCAs: known}
	const kind, kms, own = "X-Amz-Server-Side-Encryption", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id",
		"X-Amz-Server-Side-Encryption-Customer-Key"
	for _, row := range []struct {
		kind, name string
		key        []byte
		put, get   map[string]string
	}{
		{"", "", nil, map[string]string{kind: "", own: ""}, map[string]string{kind: "", own: ""}},
		{"s3", "", nil, map[string]string{kind: "AES256"}, map[string]string{kind: ""}},
		{"kms", "k", nil, map[string]string{kind: "aws:kms", kms: "k"}, map[string]string{kind: ""}},
		{"kms", "", nil, map[string]string{kind: "aws:kms", kms: ""}, nil},
		{"c", "", bytes.Repeat([]byte{7}, 32), map[string]string{own: "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="},
			map[string]string{own: "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="}},
	} {
		opts := S3Options{Endpoint: srv.URL, Bucket: "lake", MaxRetries: 1, Credentials: StaticCredentials("a", "s"),
			TLS: func() *tls.Config { return present }}
		if row.kind != "" {
			var err error
			if opts.SSE, err = NewSSE(row.kind, row.name, row.key); err != nil {
				t.Fatal(err)
			}
		}
		s, err := NewS3(opts)
		if err != nil {
			t.Fatal(err)
		}
		check := func(what string, want map[string]string) {
			t.Helper()
			seen := last.Swap(nil)
			for name, value := range want {
				if got := seen.Get(name); got != value {
					t.Errorf("%s %q, %s: %q, want %q", row.kind, row.name, what, got, value)
				}
			}
		}
		if err := s.Put(t.Context(), "x", []byte("1")); err != nil {
			t.Fatal(err)
		}
		check("put", row.put)
		if err := s.PutIfAbsent(t.Context(), "x", []byte("1")); err != nil {
			t.Fatal(err)
		}
		check("conditional put", row.put)
		if _, err := s.Get(t.Context(), "x"); err == nil {
			t.Fatal("nothing is there")
		}
		check("get", row.get)
		_ = s.Close()
	}
	for _, bad := range []func() error{
		func() error { _, err := NewSSE("c", "", make([]byte, 31)); return err },
		func() error { _, err := NewSSE("x", "", nil); return err },
	} {
		if bad() == nil {
			t.Error("it is taken")
		}
	}
}
