package config

// SASL is Kafka's authentication.
type SASL struct {
	Mechanism string `yaml:"mechanism"` // plain, scram-sha-256, scram-sha-512, oauthbearer or gssapi
	User      string `yaml:"user"`
	Password  Secret `yaml:"password"`
	OAuth     *OAuth `yaml:"oauth"` // of oauthbearer, instead of user and password
	// Kerberos belongs to gssapi, instead of user and password.
	Kerberos *Kerberos `yaml:"kerberos"`
}

// Kerberos says who this node is in a realm, and with which key.
type Kerberos struct {
	Principal string `yaml:"principal"` // without the realm
	Realm     string `yaml:"realm"`     // by default default_realm of Config
	Keytab    string `yaml:"keytab"`
	Config    string `yaml:"config" default:"/etc/krb5.conf"`
	Service   string `yaml:"service" default:"kafka"` // the first part of the brokers' principals
}

// OAuth says where tokens come from: TokenURL, by client credentials, or TokenFile, which somebody else renews.
type OAuth struct {
	TokenURL     string `yaml:"token_url"`
	ClientID     string `yaml:"client_id"`
	ClientSecret Secret `yaml:"client_secret"`
	Scope        string `yaml:"scope"`
	Audience     string `yaml:"audience"`
	CA           string `yaml:"ca"` // of TokenURL; by default the system's
	TokenFile    string `yaml:"token_file"`
	// Extensions are sent along with the token.
	Extensions []OAuthExtension `yaml:"extensions"`
}

// OAuthExtension is a name and a value that a broker asks for besides a token.
type OAuthExtension struct {
	Name  string `yaml:"name"`
	Value string `yaml:"value"`
}
