package config

// SASL is Kafka's authentication.
type SASL struct {
	// Mechanism is how Kafka is shown who this is.
	Mechanism string `yaml:"mechanism" enum:"plain,scram-sha-256,scram-sha-512,oauthbearer,gssapi"`
	User      string `yaml:"user"`     // of plain and scram
	Password  Secret `yaml:"password"` // its password
	OAuth     *OAuth `yaml:"oauth"`    // of oauthbearer, instead of user and password
	// Kerberos belongs to gssapi, instead of user and password.
	Kerberos *Kerberos `yaml:"kerberos"`
}

// Kerberos says who this node is in a realm, and with which key.
type Kerberos struct {
	Principal string `yaml:"principal"`                       // without the realm
	Realm     string `yaml:"realm"`                           // by default default_realm of config
	Keytab    string `yaml:"keytab"`                          // the file with its key
	Config    string `yaml:"config" default:"/etc/krb5.conf"` // of Kerberos
	Service   string `yaml:"service" default:"kafka"`         // the first part of the brokers' principals
}

// OAuth says where tokens come from: TokenURL, by client credentials, or TokenFile, which somebody else renews.
type OAuth struct {
	TokenURL     string `yaml:"token_url"`     // https address of the issuer
	ClientID     string `yaml:"client_id"`     // of client credentials
	ClientSecret Secret `yaml:"client_secret"` // of client credentials
	Scope        string `yaml:"scope"`         // that is asked for
	Audience     string `yaml:"audience"`      // that is asked for
	CA           string `yaml:"ca"`            // of token_url; by default the system's
	TokenFile    string `yaml:"token_file"`    // with a token, instead of all of the above
	// Extensions are sent along with the token.
	Extensions []OAuthExtension `yaml:"extensions"`
}

// OAuthExtension is a name and a value that a broker asks for besides a token.
type OAuthExtension struct {
	Name  string `yaml:"name"`  // letters
	Value string `yaml:"value"` // its text
}
