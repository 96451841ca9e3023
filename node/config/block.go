package config

// TLS names PEM files.
type TLS struct {
	// PEM file of the CAs of the other side; default: the system's
	CA   string `yaml:"ca"`
	Cert string `yaml:"cert"` // PEM file of this side's certificate
	Key  string `yaml:"key"`  // PEM file of its key
	// the name that the other side's certificate must have; default: the host that is dialled
	ServerName string `yaml:"server_name"`
	// true: whoever answers is believed
	InsecureSkipVerify bool `yaml:"insecure_skip_verify"`
}
