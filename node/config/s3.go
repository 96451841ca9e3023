package config

import (
	"encoding/base64"
	"errors"
)

// S3 is an S3-compatible store.
type S3 struct {
	Endpoint string `yaml:"endpoint"`                   // https://host:port or http://host:port
	Bucket   string `yaml:"bucket"`                     // which must exist
	Prefix   string `yaml:"prefix"`                     // of all keys
	Region   string `yaml:"region" default:"us-east-1"` // which signatures name
	// Credentials says where the keys of requests come from; chain is the first of environment, file, web_identity and
	// instance that has some. By default static if access_key is given, else
	// chain.
	Credentials  string `yaml:"credentials" enum:"static,chain,environment,file,web_identity,assume_role,instance"`
	AccessKey    Secret `yaml:"access_key"`    // of static
	SecretKey    Secret `yaml:"secret_key"`    // of static
	SessionToken Secret `yaml:"session_token"` // of static keys that have one
	File         string `yaml:"file"`          // of AWS's tools; by default theirs
	Profile      string `yaml:"profile"`       // in that file; by default AWS_PROFILE, else "default"
	STSEndpoint  string `yaml:"sts_endpoint"`  // by default AWS's for an endpoint of AWS, else endpoint
	RoleARN      string `yaml:"role_arn"`      // by default AWS_ROLE_ARN
	TokenFile    string `yaml:"token_file"`    // by default AWS_WEB_IDENTITY_TOKEN_FILE
	ExternalID   string `yaml:"external_id"`   // of assume_role
	SSE          *SSE   `yaml:"sse"`           // how the store is asked to encrypt; none: as it likes
	TLS          *TLS   `yaml:"tls"`           // of the connection; with https only
}

// SSE is how the store is asked to encrypt objects.
type SSE struct {
	Kind   string `yaml:"kind" enum:"s3,kms,c"` // whose keys: the store's, a KMS's, or the customer's (c)
	KMSKey string `yaml:"kms_key"`              // of kms; by default the bucket's
	Key    Secret `yaml:"key"`                  // of c: base64 of 32 bytes
}

// deriveCredentials fills in where the keys come from.
func (s *S3) deriveCredentials() {
	switch {
	case s.Credentials != "":
	case s.AccessKey.IsSet() || s.SecretKey.IsSet() || s.SessionToken.IsSet():
		s.Credentials = "static"
	default:
		s.Credentials = "chain"
	}
}

// CustomerKey returns the 32 bytes of the key of kind c.
func (e *SSE) CustomerKey() ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(e.Key.Value())
	if err != nil || len(key) != 32 {
		return nil, errors.New("must be base64 of 32 bytes: openssl rand -base64 32")
	}
	return key, nil
}
