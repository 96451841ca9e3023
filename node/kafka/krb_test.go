//go:build !nokerberos

package kafka

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/keytab"

	"deckle/node/config"
)

// keysOf is a keytab with a key of each of these principals, of the realm R.
func keysOf(t testing.TB, principals ...string) []byte {
	t.Helper()
	k := keytab.New()
	for _, p := range principals {
		if err := k.AddEntry(p, "R", "password", time.Unix(1, 0), 1, 18); err != nil {
			t.Fatal(err)
		}
	}
	content, err := k.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// A file that cannot be used is refused with the reason, and what was in use stays.
func TestKerberosFiles(t *testing.T) {
	k, err := NewKerberos(&config.Kerberos{Principal: "deckle/a", Service: "kafka"})
	if err != nil {
		t.Fatal(err)
	}
	const conf = "[libdefaults]\n default_realm = R\n dns_lookup_kdc = false\n"
	good := keysOf(t, "other", "deckle/a")
	for _, row := range []struct {
		what, want string
		err        error
	}{
		{"no realm", "no default_realm", k.TakeConfig([]byte("[libdefaults]\n dns_lookup_kdc = false\n"))},
		{"config", "", k.TakeConfig([]byte(conf))},
		{"empty", "is no keytab", k.TakeKeytab(nil)},
		{"text", "is no keytab", k.TakeKeytab([]byte("deckle"))},
		{"cut", "is no keytab", k.TakeKeytab(good[:len(good)-3])},
		{"others", "has no key of deckle/a@R, but of kafka@R, other@R", k.TakeKeytab(keysOf(t, "other", "kafka"))},
		{"good", "", k.TakeKeytab(good)},
		{"another realm", "has no key of deckle/a@S", k.TakeConfig([]byte(strings.ReplaceAll(conf, "= R", "= S")))},
	} {
		if (row.err == nil) != (row.want == "") || row.err != nil && !strings.Contains(row.err.Error(), row.want) {
			t.Errorf("%s: %v, want %q", row.what, row.err, row.want)
		}
	}
	if err := guarded(func() error { panic("out of range") }); err == nil {
		t.Error("a decoder that panics ends the node")
	}
	if k.has.realm != "R" || len(k.has.keys.Entries) != 2 {
		t.Errorf("in use: %+v", k.has)
	}
}

// Another keytab makes another client, the same one none; and a KDC that says nothing holds up no connection longer
// than that has patience.
func TestKerberosClient(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	k, err := NewKerberos(&config.Kerberos{Principal: "deckle", Realm: "R", Service: "kafka"})
	if err != nil {
		t.Fatal(err)
	}
	take := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	take(k.TakeConfig([]byte("[libdefaults]\n dns_lookup_kdc = false\n[realms]\n R = {\n  kdc = " +
		silent.LocalAddr().String() + "\n }\n")))
	take(k.TakeKeytab(keysOf(t, "deckle")))
	first, _ := k.present()
	if again, _ := k.present(); again != first {
		t.Error("a client for each connection: each asks for a ticket of its own")
	}
	take(k.TakeKeytab(keysOf(t, "deckle")))
	if again, _ := k.present(); again == first {
		t.Error("the former keytab's client goes on")
	}
	for range 2 { // the second waits for the first
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		began := time.Now()
		_, _, err = k.mechanism().Authenticate(ctx, "broker:9092")
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "kafka.sasl.kerberos: no KDC") ||
			time.Since(began) > 4*time.Second {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
	}
	if _, from, err := silent.ReadFrom(make([]byte, 4096)); err == nil { // no more: nothing is left behind
		_, _ = silent.WriteTo([]byte("nonsense"), from)
	}
	k.one <- struct{}{}
}

// Whatever a keytab or krb5.conf has, it is taken or refused.
func FuzzKerberosFiles(f *testing.F) {
	f.Add(keysOf(f, "deckle"), []byte("[libdefaults]\n default_realm = R\n[realms]\n R = {\n kdc = k\n }\n"))
	f.Add([]byte("\x05\x02\x00\x00\x00\xff\x00\x09"), []byte("[realms]\n R = {\n"))
	f.Add([]byte("\x05\x01"), []byte("[domain_realm]\n ="))
	f.Fuzz(func(t *testing.T, keys, conf []byte) {
		k, err := NewKerberos(&config.Kerberos{Principal: "deckle", Service: "kafka"})
		if err != nil {
			t.Fatal(err)
		}
		if k.TakeConfig(conf) == nil && k.TakeKeytab(keys) == nil {
			k.present()
		}
	})
}
