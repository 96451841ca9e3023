package config

import (
	"net/url"
	"regexp"
	"strings"
)

// extensionName and extensionValue are what RFC 7628 takes: anything else would end the message early.
var (
	extensionName  = regexp.MustCompile("^[A-Za-z]+$")
	extensionValue = regexp.MustCompile(`^[ -~\t\r\n]+$`)
)

func checkSASL(k *checker, s *SASL) {
	if s == nil {
		return
	}
	if k.kerberos(s) {
		return
	}
	if s.Mechanism == "oauthbearer" {
		checkOAuth(k, s)
		return
	}
	if s.OAuth != nil {
		k.add("kafka.sasl.oauth", "is for mechanism: oauthbearer; take it away")
	}
	k.need("kafka.sasl.user", s.User, "the user name")
	if !s.Password.IsSet() {
		k.add("kafka.sasl.password", "is missing: give {env: NAME} or {file: PATH}")
	}
}

func checkOAuth(k *checker, s *SASL) {
	if s.User != "" || s.Password.IsSet() {
		k.add("kafka.sasl.mechanism", "oauthbearer has neither user nor password: take them away")
	}
	o := s.OAuth
	if o == nil || o.TokenURL == "" && o.TokenFile == "" {
		k.add("kafka.sasl.oauth", "needs a source of tokens: token_url with client_id and client_secret, or token_file")
		return
	}
	if o.TokenFile != "" {
		if o.TokenURL != "" || o.ClientID != "" || o.ClientSecret.IsSet() || o.Scope+o.Audience+o.CA != "" {
			k.add("kafka.sasl.oauth.token_file",
				"is the only source of tokens: take token_url and what belongs to it away")
		}
	} else {
		u, err := url.Parse(o.TokenURL)
		switch {
		case err != nil || u.User != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
			k.add("kafka.sasl.oauth.token_url", "must be https://host/path, without user or password")
		case u.Scheme == "http" && !Loopback(u.Host):
			k.add("kafka.sasl.oauth.token_url", "sends the client's secret: write https://")
		default:
			k.host("kafka.sasl.oauth.token_url", u)
		}
		k.need("kafka.sasl.oauth.client_id", o.ClientID, "the name of this client")
		if !o.ClientSecret.IsSet() {
			k.add("kafka.sasl.oauth.client_secret", "is missing: give {env: NAME} or {file: PATH}")
		}
	}
	for _, e := range o.Extensions {
		if !extensionName.MatchString(e.Name) || e.Name == "auth" || !extensionValue.MatchString(e.Value) {
			k.add("kafka.sasl.oauth.extensions", "%q=%q cannot be sent: a name has letters only and is not auth, a "+
				"value is printable ASCII", e.Name, e.Value)
		}
	}
}

// kerberos checks what belongs to gssapi, and says whether that is the mechanism.
func (k *checker) kerberos(s *SASL) bool {
	const at = "kafka.sasl.kerberos"
	c := s.Kerberos
	switch {
	case s.Mechanism != "gssapi":
		if c != nil {
			k.add(at, "is for mechanism: gssapi; take it away")
		}
		return false
	case s.User != "" || s.Password.IsSet() || s.OAuth != nil:
		k.add("kafka.sasl.mechanism", "gssapi has neither user, password nor oauth: take them away")
	case c == nil:
		k.add(at, "is missing: give principal and keytab")
	}
	if c == nil {
		return true
	}
	k.need(at+".principal", c.Principal, "this node's name in the realm, e.g. deckle")
	if name, realm, ok := strings.Cut(c.Principal, "@"); ok {
		k.add(at+".principal", "%q has its realm: write principal: %s and realm: %s", c.Principal, name, realm)
	}
	if strings.ContainsAny(c.Realm, "/@ ") {
		k.add(at+".realm", "%q is no realm: it has neither '/', '@' nor blanks, e.g. EXAMPLE.COM", c.Realm)
	}
	k.need(at+".keytab", c.Keytab, "the file with the principal's key")
	if strings.ContainsAny(c.Service, "/@") {
		k.add(at+".service", "%q is more than the first part of the brokers' principals: kafka of kafka/HOST@REALM",
			c.Service)
	}
	return true
}
