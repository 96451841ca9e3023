package store

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/encrypt"
)

const (
	// askAgain is the least time between two attempts to get newer keys while the former ones are still good.
	askAgain = 10 * time.Second
	// session names this program in the logs of who gives roles.
	session = "deckle"
)

// Keys says where the keys of S3 requests come from. Those with an end are asked for anew before it. What needs a
// server for them reaches it over the connections of the store, with its TLS configuration.
type Keys struct {
	// From is static, environment, file, web_identity, assume_role, instance, or chain (""): the first of environment,
	// file, web_identity and instance that has some, and it alone from then on.
	From string
	// AccessKey, SecretKey and SessionToken are asked before each request; the last may be nil. They are those of
	// static, and, if they are set, those with which assume_role asks; otherwise it asks with those of environment or
	// file.
	AccessKey, SecretKey, SessionToken func() string
	File, Profile                      string // of AWS's tools; "" for their own choice
	// STSEndpoint gives temporary keys to web_identity and assume_role; by default AWS's for an endpoint of AWS, else
	// the store itself.
	STSEndpoint, RoleARN, ExternalID string
	TokenFile                        string // of web_identity
	Endpoint, Region                 string // of the store
}

// StaticCredentials returns fixed keys for S3Options.
func StaticCredentials(accessKey, secretKey string) *credentials.Credentials {
	return credentials.NewStaticV4(accessKey, secretKey, "")
}

// Credentials returns the keys for S3Options. It does no I/O.
func (k *Keys) Credentials() (*credentials.Credentials, error) {
	p, err := k.provider()
	if err != nil {
		return nil, err
	}
	return credentials.New(p), nil
}

func (k *Keys) provider() (*sources, error) {
	environment := []source{{"environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)", &credentials.EnvAWS{}},
		{"environment (MINIO_ROOT_USER, MINIO_ROOT_PASSWORD)", &credentials.EnvMinio{}}}
	file := source{"file", &fileKeys{FileAWSCredentials: credentials.FileAWSCredentials{Filename: k.File,
		Profile: k.Profile}, now: time.Now}}
	instance := source{"instance", &credentials.IAM{Region: k.Region, Endpoint: metadata()}}
	switch k.From {
	case "static":
		return newSources(source{"static", &presentKeys{keys: k}}), nil
	case "environment":
		return newSources(environment...), nil
	case "file":
		return newSources(file), nil
	case "instance":
		return newSources(instance), nil
	case "web_identity":
		web, err := k.webIdentity()
		if err != nil {
			return nil, err
		}
		return newSources(web), nil
	case "assume_role":
		with := newSources(append(environment, file)...)
		if k.AccessKey != nil {
			with = newSources(source{"static", &presentKeys{keys: k}})
		}
		return newSources(source{"assume_role", &assumedRole{keys: k, with: with}}), nil
	case "", "chain":
		chain := append(environment, file)
		if web, err := k.webIdentity(); err == nil {
			return newSources(append(chain, web)...), nil
		}
		return newSources(append(chain, instance)...), nil
	}
	return nil, fmt.Errorf("store: S3 keys cannot come from %q", k.From)
}

// metadata returns the address of the machine's metadata service, as AWS's tools are told it; "" for AWS's own. In a
// container other variables name the place, which the library knows.
func metadata() string {
	for _, name := range []string{"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
		"AWS_CONTAINER_CREDENTIALS_FULL_URI"} {
		if os.Getenv(name) != "" {
			return ""
		}
	}
	return strings.TrimSuffix(os.Getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT"), "/")
}

// webIdentity exchanges a token in a file, which somebody else renews, for keys.
func (k *Keys) webIdentity() (source, error) {
	file, role := k.TokenFile, k.RoleARN
	if file == "" {
		file = os.Getenv("AWS_WEB_IDENTITY_TOKEN_FILE")
	}
	if role == "" {
		role = os.Getenv("AWS_ROLE_ARN")
	}
	if file == "" {
		return source{}, errors.New("store: web_identity needs the file of a token: set token_file, or " +
			"AWS_WEB_IDENTITY_TOKEN_FILE")
	}
	return source{"web_identity", &credentials.STSWebIdentity{STSEndpoint: k.sts(), RoleARN: role,
		GetWebIDTokenExpiry: func() (*credentials.WebIdentityToken, error) {
			token, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			if len(strings.TrimSpace(string(token))) == 0 {
				return nil, fmt.Errorf("%s is empty", file)
			}
			return &credentials.WebIdentityToken{Token: strings.TrimSpace(string(token))}, nil
		}}}, nil
}

// sts returns the address of who gives temporary keys; "" for the store itself.
func (k *Keys) sts() string {
	if k.STSEndpoint != "" {
		return k.STSEndpoint
	}
	if u, err := url.Parse(k.Endpoint); err == nil {
		for _, domain := range []string{"amazonaws.com", "amazonaws.com.cn"} {
			if strings.HasSuffix(u.Hostname(), "."+domain) {
				return "https://sts." + k.Region + "." + domain
			}
		}
	}
	return ""
}

// source is a place where keys may be. What asks a server is called by one request at a time.
type source struct {
	name string
	credentials.Provider
}

// sources are places, in the order in which they are asked. The first that has keys is asked alone from then on, so
// that a failure does not make this process somebody else.
type sources struct {
	list  []source
	has   credentials.Value
	found bool // list has one source, whose keys are has
	// failed is when newer keys were last asked for in vain. Only then is there a pause: keys that live for seconds
	// have to be renewed as often.
	failed time.Time
	now    func() time.Time
}

func newSources(list ...source) *sources { return &sources{list: list, now: time.Now} }

// good says whether the keys that are there have an end, and it is not reached.
func (s *sources) good() bool {
	return s.found && !s.has.Expiration.IsZero() && s.now().Before(s.has.Expiration)
}

// IsExpired implements credentials.Provider.
func (s *sources) IsExpired() bool {
	return !s.found || s.list[0].IsExpired() && (!s.good() || s.now().Sub(s.failed) >= askAgain)
}

// RetrieveWithCredContext implements credentials.Provider. Keys that have not ended outlive a failure.
func (s *sources) RetrieveWithCredContext(cc *credentials.CredContext) (credentials.Value, error) {
	var errs []string
	for _, from := range s.list {
		v, err := from.RetrieveWithCredContext(cc)
		if err == nil && (v.AccessKeyID == "" || v.SecretAccessKey == "") {
			err = errors.New("has none")
		}
		if err == nil {
			s.list, s.has, s.found = []source{from}, v, true
			return v, nil
		}
		errs = append(errs, from.name+": "+err.Error())
	}
	s.failed = s.now()
	if s.good() {
		return s.has, nil
	}
	return credentials.Value{}, fmt.Errorf("store: no S3 keys (delta.s3.credentials): %s", strings.Join(errs, "; "))
}

// Retrieve implements credentials.Provider.
func (s *sources) Retrieve() (credentials.Value, error) { return s.RetrieveWithCredContext(nil) }

// presentKeys are keys that may change. The client asks whether they have expired before each request, under its lock.
type presentKeys struct {
	keys *Keys
	has  credentials.Value
}

func (p *presentKeys) present() credentials.Value {
	v := credentials.Value{AccessKeyID: p.keys.AccessKey(), SecretAccessKey: p.keys.SecretKey(),
		SignerType: credentials.SignatureV4}
	if p.keys.SessionToken != nil {
		v.SessionToken = p.keys.SessionToken()
	}
	return v
}

// Retrieve implements credentials.Provider.
func (p *presentKeys) Retrieve() (credentials.Value, error) {
	p.has = p.present()
	return p.has, nil
}

// RetrieveWithCredContext implements credentials.Provider.
func (p *presentKeys) RetrieveWithCredContext(*credentials.CredContext) (credentials.Value, error) {
	return p.Retrieve()
}

// IsExpired implements credentials.Provider.
func (p *presentKeys) IsExpired() bool { return p.has != p.present() }

// assumedRole are the keys of a role, for which one asks with others.
type assumedRole struct {
	credentials.STSAssumeRole
	keys *Keys
	with *sources
}

// RetrieveWithCredContext implements credentials.Provider.
func (r *assumedRole) RetrieveWithCredContext(cc *credentials.CredContext) (credentials.Value, error) {
	if r.with.IsExpired() {
		if _, err := r.with.RetrieveWithCredContext(cc); err != nil {
			return credentials.Value{}, err
		}
	}
	role := r.keys.RoleARN
	if role == "" {
		role = os.Getenv("AWS_ROLE_ARN")
	}
	r.STSEndpoint = r.keys.sts()
	r.Options = credentials.STSAssumeRoleOptions{AccessKey: r.with.has.AccessKeyID,
		SecretKey: r.with.has.SecretAccessKey, SessionToken: r.with.has.SessionToken, Location: r.keys.Region,
		RoleARN: role, RoleSessionName: session, ExternalID: r.keys.ExternalID}
	return r.STSAssumeRole.RetrieveWithCredContext(cc)
}

// Retrieve implements credentials.Provider.
func (r *assumedRole) Retrieve() (credentials.Value, error) { return r.RetrieveWithCredContext(nil) }

// IsExpired implements credentials.Provider. With other keys to ask with, the role's are asked for anew.
func (r *assumedRole) IsExpired() bool { return r.STSAssumeRole.IsExpired() || r.with.IsExpired() }

// fileKeys are those of AWS's files, which are read anew when they change: the library reads them once. What cannot be
// read leaves the former keys in use.
type fileKeys struct {
	credentials.FileAWSCredentials
	now    func() time.Time
	looked time.Time
	sum    [sha256.Size]byte // of the files, as the keys were taken from them
	has    credentials.Value
}

// content returns the sum of the files that the library reads.
func (f *fileKeys) content() [sha256.Size]byte {
	files := []string{f.Filename}
	if f.Filename == "" {
		home, _ := os.UserHomeDir()
		files = []string{os.Getenv("AWS_CONFIG_FILE"), os.Getenv("AWS_SHARED_CREDENTIALS_FILE")}
		for i, name := range []string{"config", "credentials"} {
			if files[i] == "" {
				files[i] = filepath.Join(home, ".aws", name)
			}
		}
	}
	h := sha256.New()
	for _, name := range files {
		text, _ := os.ReadFile(name)
		own := sha256.Sum256(text)
		h.Write(own[:])
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// RetrieveWithCredContext implements credentials.Provider.
func (f *fileKeys) RetrieveWithCredContext(cc *credentials.CredContext) (credentials.Value, error) {
	sum := f.content()
	f.looked = f.now()
	v, err := f.FileAWSCredentials.RetrieveWithCredContext(cc)
	switch {
	case err == nil:
		f.has, f.sum = v, sum
	case f.has.AccessKeyID != "" && f.has.Expiration.IsZero():
		return f.has, nil
	}
	return v, err
}

// Retrieve implements credentials.Provider.
func (f *fileKeys) Retrieve() (credentials.Value, error) { return f.RetrieveWithCredContext(nil) }

// IsExpired implements credentials.Provider.
func (f *fileKeys) IsExpired() bool {
	if f.has.AccessKeyID == "" || !f.has.Expiration.IsZero() {
		return f.FileAWSCredentials.IsExpired()
	}
	if f.now().Sub(f.looked) < askAgain {
		return false
	}
	f.looked = f.now()
	return f.content() != f.sum
}

// NewSSE returns how the store is asked to encrypt objects: kind s3, kms with the name of a key ("" for the bucket's),
// or c with a key of 32 bytes, without which nothing can be read any more.
func NewSSE(kind, kmsKey string, key []byte) (encrypt.ServerSide, error) {
	switch kind {
	case "s3":
		return encrypt.NewSSE(), nil
	case "kms":
		return encrypt.NewSSEKMS(kmsKey, nil)
	case "c":
		return encrypt.NewSSEC(key)
	}
	return nil, fmt.Errorf("store: unknown kind of encryption %q", kind)
}
