package services

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// S3 is a server of an S3-compatible store: MinIO or versitygw.
type S3 struct {
	*Process
	Addr      string   // without TLS
	Secure    *Account // nil without an Authority
	AccessKey string

	secret, bucket string
	door           *door
	environment    func(accessKey, secretKey string) []string
}

// SecretKey is the present one.
func (m *S3) SecretKey() string {
	if m.Secure != nil {
		return m.Secure.Password()
	}
	return m.secret
}

// StartMinIO starts a MinIO server in dir and creates the bucket. With ca it has TLS, and Addr is a door to it.
func StartMinIO(ctx context.Context, binary, dir, bucket string, ca *Authority) (*S3, error) {
	certs := filepath.Join(dir, "certs")
	m, err := newS3(dir, bucket, ca, filepath.Join(certs, "public.crt"), filepath.Join(certs, "private.key"))
	if err != nil {
		return nil, err
	}
	m.environment = func(accessKey, secretKey string) []string {
		return []string{"MINIO_ROOT_USER=" + accessKey, "MINIO_ROOT_PASSWORD=" + secretKey, "MINIO_CI_CD=1"}
	}
	args := []string{binary, "server", "--quiet", "--address", m.address()}
	if ca != nil {
		args = append(args, "--certs-dir", certs)
	}
	return m, m.run(ctx, "minio", dir, append(args, filepath.Join(dir, "data"))...)
}

// StartVersity starts a versitygw server over the folder dir/data and creates the bucket. With ca it has TLS, and Addr
// is a door to it. The file system must have extended attributes.
func StartVersity(ctx context.Context, binary, dir, bucket string, ca *Authority) (*S3, error) {
	cert, key := filepath.Join(dir, "server.pem"), filepath.Join(dir, "server-key.pem")
	m, err := newS3(dir, bucket, ca, cert, key)
	if err != nil {
		return nil, err
	}
	m.environment = func(accessKey, secretKey string) []string {
		return []string{"ROOT_ACCESS_KEY_ID=" + accessKey, "ROOT_SECRET_ACCESS_KEY=" + secretKey}
	}
	args := []string{binary, "--quiet", "--port", m.address()}
	if ca != nil {
		args = append(args, "--cert", cert, "--key", key)
	}
	return m, m.run(ctx, "versitygw", dir, append(args, "posix", filepath.Join(dir, "data"))...)
}

// newS3 makes the folder of a server, and with ca its certificate and its door.
func newS3(dir, bucket string, ca *Authority, certFile, keyFile string) (*S3, error) {
	if err := os.MkdirAll(filepath.Join(dir, "data"), 0o755); err != nil {
		return nil, fmt.Errorf("services: %w", err)
	}
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	m := &S3{Addr: fmt.Sprintf("127.0.0.1:%d", port), AccessKey: "deckle", secret: plainPassword, bucket: bucket}
	if ca == nil {
		return m, nil
	}
	if m.Secure, err = ca.account(m.AccessKey, newPassword()); err != nil {
		return nil, err
	}
	if err := ca.server("s3", certFile, keyFile); err != nil {
		return nil, err
	}
	if m.door, err = ca.openDoor(m.Secure.Addr); err != nil {
		return nil, err
	}
	m.Addr = m.door.addr
	return m, nil
}

// address is where the server itself listens.
func (m *S3) address() string {
	if m.Secure != nil {
		return m.Secure.Addr
	}
	return m.Addr
}

func (m *S3) run(ctx context.Context, name, dir string, args ...string) error {
	m.Process = NewProcess(name, dir, m.environment(m.AccessKey, m.SecretKey()), args...)
	return m.Up(ctx)
}

// Restart ends the server and starts it with another secret key.
func (m *S3) Restart(ctx context.Context, secret string) error {
	if err := m.Process.Kill(); err != nil {
		return err
	}
	m.Secure.set(secret)
	m.env = m.environment(m.AccessKey, secret)
	return m.Up(ctx)
}

// End ends the server and its door.
func (m *S3) End() error {
	if m.door != nil {
		defer m.door.shut()
	}
	return m.Kill()
}

// Up starts the server, again if it has ended, and waits until it has its bucket.
func (m *S3) Up(ctx context.Context) error {
	if err := m.Start(); err != nil {
		return err
	}
	if err := m.WaitPort(ctx, m.address()); err != nil {
		return err
	}
	cl, err := m.Client()
	if err != nil {
		return err
	}
	return m.wait(ctx, "bucket "+m.bucket, func(ctx context.Context) bool {
		ok, err := cl.BucketExists(ctx, m.bucket)
		if err == nil && !ok {
			err = cl.MakeBucket(ctx, m.bucket, minio.MakeBucketOptions{})
		}
		return err == nil
	})
}

// Client returns a client of the store. It goes on with another secret key when that has changed.
func (m *S3) Client() (*minio.Client, error) {
	cl, err := minio.New(m.Addr, &minio.Options{Creds: m.Credentials(), Region: "us-east-1"})
	if err != nil {
		return nil, fmt.Errorf("services: %w", err)
	}
	return cl, nil
}

// Credentials are the present ones, whenever they are asked for.
func (m *S3) Credentials() *credentials.Credentials { return credentials.New(&present{m}) }

type present struct{ m *S3 }

func (p *present) IsExpired() bool { return true }

func (p *present) Retrieve() (credentials.Value, error) { return p.RetrieveWithCredContext(nil) }

func (p *present) RetrieveWithCredContext(*credentials.CredContext) (credentials.Value, error) {
	return credentials.Value{AccessKeyID: p.m.AccessKey, SecretAccessKey: p.m.SecretKey(),
		SignerType: credentials.SignatureV4}, nil
}

// ReadObject returns the whole of an object.
func ReadObject(ctx context.Context, client *minio.Client, bucket, key string) ([]byte, error) {
	o, err := client.GetObject(ctx, bucket, key, minio.GetObjectOptions{})
	if err != nil {
		return nil, err
	}
	defer func() { _ = o.Close() }() // it was only read from
	return io.ReadAll(o)
}

// Mirror copies every object below prefix into a local folder, for readers of local tables.
func (m *S3) Mirror(ctx context.Context, bucket, prefix, dir string) error {
	cl, err := m.Client()
	if err != nil {
		return err
	}
	for o := range cl.ListObjects(ctx, bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
		if o.Err != nil {
			return fmt.Errorf("services: listing %s: %w", prefix, o.Err)
		}
		to := filepath.Join(dir, filepath.FromSlash(strings.TrimPrefix(o.Key, prefix)))
		if err := cl.FGetObject(ctx, bucket, o.Key, to, minio.GetObjectOptions{}); err != nil {
			return fmt.Errorf("services: copying %s: %w", o.Key, err)
		}
	}
	return nil
}
