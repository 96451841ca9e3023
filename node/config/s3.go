package config

import (
	"encoding/base64"
	"errors"
)

// S3 is an S3-compatible store.
type S3 struct {
	Endpoint string `yaml:"endpoint"` // https://host:port or http://host:port
	Bucket   string `yaml:"bucket"`
	Prefix   string `yaml:"prefix"`
	Region   string `yaml:"region" default:"us-east-1"`
	// Credentials says where the keys of requests come from (S3Sources); by default static if AccessKey is given, else
	// chain.
	Credentials  string `yaml:"credentials"`
	AccessKey    Secret `yaml:"access_key"`
	SecretKey    Secret `yaml:"secret_key"`
	SessionToken Secret `yaml:"session_token"`
	File         string `yaml:"file"`         // of AWS's tools; by default theirs
	Profile      string `yaml:"profile"`      // in that file; by default AWS_PROFILE, else "default"
	STSEndpoint  string `yaml:"sts_endpoint"` // by default AWS's for an endpoint of AWS, else Endpoint
	RoleARN      string `yaml:"role_arn"`     // by default AWS_ROLE_ARN
	TokenFile    string `yaml:"token_file"`   // by default AWS_WEB_IDENTITY_TOKEN_FILE
	ExternalID   string `yaml:"external_id"`
	SSE          *SSE   `yaml:"sse"`
	TLS          *TLS   `yaml:"tls"`
}

// SSE is how the store is asked to encrypt objects.
type SSE struct {
	Kind   string `yaml:"kind"`    // s3, kms or c
	KMSKey string `yaml:"kms_key"` // of kms; by default the bucket's
	Key    Secret `yaml:"key"`     // of c: base64 of 32 bytes
}

// S3Sources are the places from which keys of S3 may come, by the values of delta.s3.credentials. chain is the first of
// environment, file, web_identity and instance that has some.
var S3Sources = []string{"static", "chain", "environment", "file", "web_identity", "assume_role", "instance"}

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
