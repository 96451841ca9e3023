//go:build !nokerberos

package kafka

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/jcmturner/gokrb5/v8/client"
	krb5 "github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/kerberos"

	"deckle/node/config"
)

// Kerberos proves a node with the key in a keytab (GSSAPI). Both of its files must be taken before it is used, and may
// be taken again. It is safe for concurrent use.
//
// The library under it cannot be interrupted and is not made for concurrent use: one connection after the other proves
// itself, and a wait for a KDC that says nothing ends with the connection's own patience.
type Kerberos struct {
	cfg *config.Kerberos
	one chan struct{} // one place: who has it may use client

	client *client.Client // of made
	made   *tickets

	mu  sync.Mutex
	has tickets // as the files are now
}

// tickets is what tickets are asked for with.
type tickets struct {
	keys  *keytab.Keytab
	conf  *krb5.Config
	realm string
}

// NewKerberos returns what proves the principal of cfg.
func NewKerberos(cfg *config.Kerberos) (*Kerberos, error) {
	return &Kerberos{cfg: cfg, one: make(chan struct{}, 1)}, nil
}

// TakeKeytab takes the content of the keytab. An error changes nothing.
func (k *Kerberos) TakeKeytab(content []byte) (err error) {
	keys := keytab.New()
	if err := guarded(func() error { return keys.Unmarshal(content) }); err != nil {
		return fmt.Errorf("is no keytab: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.take(tickets{keys: keys, conf: k.has.conf})
}

// TakeConfig takes the content of krb5.conf. An error changes nothing.
func (k *Kerberos) TakeConfig(content []byte) error {
	var conf *krb5.Config
	err := guarded(func() (err error) {
		conf, err = krb5.NewFromReader(bytes.NewReader(content))
		return err
	})
	if unsupported := (krb5.UnsupportedDirective{}); err != nil && !errors.As(err, &unsupported) {
		return fmt.Errorf("is no krb5.conf: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.take(tickets{keys: k.has.keys, conf: conf})
}

// take puts t in use, if it has what is needed, with k.mu held.
func (k *Kerberos) take(t tickets) error {
	if t.conf != nil {
		t.realm = cmp.Or(k.cfg.Realm, t.conf.LibDefaults.DefaultRealm)
		if t.realm == "" {
			return errors.New("has no default_realm: add one, or set kafka.sasl.kerberos.realm")
		}
	}
	if t.conf != nil && t.keys != nil && !slices.Contains(names(t.keys), k.cfg.Principal+"@"+t.realm) {
		return fmt.Errorf("the keytab has no key of %s@%s, but of %s: another keytab, or principal or realm is "+
			"wrong", k.cfg.Principal, t.realm, cmp.Or(strings.Join(names(t.keys), ", "), "nobody"))
	}
	k.has = t
	return nil
}

// names are the principals of a keytab.
func names(keys *keytab.Keytab) (names []string) {
	for _, e := range keys.Entries {
		names = append(names, strings.Join(e.Principal.Components, "/")+"@"+e.Principal.Realm)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// guarded turns a panic of a decoder into an error: the files are not of our making, and nobody mends the library.
func guarded(decode func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it is cut or broken: %v", p)
		}
	}()
	return decode()
}

// mechanism is how connections prove themselves.
func (k *Kerberos) mechanism() sasl.Mechanism { return gssapi{k} }

type gssapi struct{ k *Kerberos }

// Name implements sasl.Mechanism.
func (gssapi) Name() string { return "GSSAPI" }

// Authenticate implements sasl.Mechanism: it has a ticket for the broker at host. Errors name key and cause.
func (g gssapi) Authenticate(ctx context.Context, host string) (sasl.Session, []byte, error) {
	type answer struct {
		session sasl.Session
		first   []byte
		err     error
	}
	k := g.k
	select {
	case k.one <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, fmt.Errorf("kafka.sasl.kerberos: no KDC has answered yet: %w", ctx.Err())
	}
	answers := make(chan answer, 1)
	go func() {
		defer func() { <-k.one }()
		cl, realm := k.present()
		var a answer
		a.err = guarded(func() (err error) {
			auth := kerberos.Auth{Client: cl, Service: k.cfg.Service, PersistAfterAuth: true}
			a.session, a.first, err = kerberos.Kerberos(func(context.Context) (kerberos.Auth, error) {
				return auth, nil
			}).Authenticate(ctx, host)
			return err
		})
		a.err = k.explain(a.err, realm, host)
		answers <- a
	}()
	select {
	case a := <-answers:
		return a.session, a.first, a.err
	case <-ctx.Done():
		return nil, nil, fmt.Errorf("kafka.sasl.kerberos: no KDC has answered yet: %w", ctx.Err())
	}
}

// present returns the client of the present files, for who has the one place.
func (k *Kerberos) present() (*client.Client, string) {
	k.mu.Lock()
	has := k.has
	k.mu.Unlock()
	if k.made != nil && *k.made == has {
		return k.client, has.realm
	}
	if k.client != nil {
		k.client.Destroy() // nobody else uses it, and sessions that have begun need it no more
	}
	k.client = client.NewWithKeytab(k.cfg.Principal, has.realm, has.keys, has.conf, client.DisablePAFXFAST(true))
	k.made = &has
	return k.client, has.realm
}

// explain says what an error of the library is about: it has texts alone, and none knows of our keys.
func (k *Kerberos) explain(err error, realm, host string) error {
	if err == nil {
		return nil
	}
	const apart = ": the clocks of this machine and of the KDC differ by too much (5 minutes, mostly)"
	text, who := err.Error(), k.cfg.Principal+"@"+realm
	name, _, _ := strings.Cut(host, ":")
	for _, row := range [][2]string{
		{"KRB_AP_ERR_SKEW", apart}, {"clock skew", apart},
		{"KDC_ERR_PREAUTH_FAILED", ".keytab: the KDC has another key of " + who + ": it needs a new keytab"},
		{"keytab incorrect", ".keytab: the KDC has another key of " + who + ": it needs a new keytab"},
		{"KDC_ERR_C_PRINCIPAL_UNKNOWN", ".principal: the KDC does not know " + who},
		{"KDC_ERR_S_PRINCIPAL_UNKNOWN", ".service: the KDC does not know " + k.cfg.Service + "/" + name + ": brokers " +
			"are known by the names in their principals, which kafka.brokers and advertised.listeners must have"},
		{"KDC_ERR_WRONG_REALM", ".realm: the KDC is not that of " + realm},
		{"KDC_ERR_ETYPE_NOSUPP", ".keytab: the KDC takes no key of a kind that the keytab has"},
		{"matching key not found", ".keytab: it has no key of " + who + " of the kind that the KDC wants"},
		{"CLIENT_REVOKED", ".principal: " + who + " is locked at the KDC"},
		{"KDC_ERR_NAME_EXP", ".principal: " + who + " has expired at the KDC"},
		{"KDC_ERR_KEY_EXPIRED", ".keytab: the key of " + who + " has expired at the KDC: it needs a new keytab"},
		{"no KDC", ".config: it names no KDC of " + realm},
		{"defined KDCs", ".config: it names no KDC of " + realm},
		{"communicat", ".config: no KDC of " + realm + " that it names answers"},
		{"Networking_Error", ".config: no KDC of " + realm + " that it names answers"},
	} {
		if strings.Contains(text, row[0]) {
			return fmt.Errorf("kafka.sasl.kerberos%s: %w", row[1], err)
		}
	}
	return fmt.Errorf("kafka.sasl.kerberos: %w", err)
}
