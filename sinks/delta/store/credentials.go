package store

import "github.com/minio/minio-go/v7/pkg/credentials"

// PresentCredentials returns keys for S3Options that may change: each request is signed with what the functions return
// then.
func PresentCredentials(accessKey, secretKey func() string) *credentials.Credentials {
	return credentials.New(&presentKeys{access: accessKey, secret: secretKey})
}

// presentKeys are keys that may change. The client asks whether they have expired before each request, under its lock.
type presentKeys struct {
	access, secret func() string
	has            credentials.Value
}

// Retrieve implements credentials.Provider.
func (p *presentKeys) Retrieve() (credentials.Value, error) {
	p.has = credentials.Value{AccessKeyID: p.access(), SecretAccessKey: p.secret(),
		SignerType: credentials.SignatureV4}
	return p.has, nil
}

// RetrieveWithCredContext implements credentials.Provider.
func (p *presentKeys) RetrieveWithCredContext(*credentials.CredContext) (credentials.Value, error) {
	return p.Retrieve()
}

// IsExpired implements credentials.Provider.
func (p *presentKeys) IsExpired() bool {
	return p.has.AccessKeyID != p.access() || p.has.SecretAccessKey != p.secret()
}
