package store

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/encrypt"
)

// S3Options says where an S3-compatible store is.
type S3Options struct {
	Endpoint string // https://host:port or http://host:port
	Bucket   string
	Prefix   string // "" or a key prefix without leading slash; a trailing slash is added
	Region   string // default us-east-1; always set, so that the client never asks for the bucket's location
	// Credentials are the keys that sign requests; by default those of Keys{}: environment, file, instance.
	Credentials *credentials.Credentials
	// SSE is how objects are to be encrypted by the store (NewSSE); nil: as the bucket says.
	SSE encrypt.ServerSide
	// TLS returns the configuration of connections, the same until it is to be another one; nil: the system's roots.
	TLS func() *tls.Config
	// MaxRetries is how often the client itself tries one request; default 3. A repeated conditional PUT may meet its
	// own object, which package deltalog finds out by reading back.
	MaxRetries int
	// ResponseTimeout bounds the wait for an answer's header after the request is sent; default 60 s.
	ResponseTimeout time.Duration
}

// S3 keeps objects in a bucket. Every put is one PUT request of known size, as only such a request can be conditional.
type S3 struct {
	client    *minio.Client
	transport *transport
	bucket    string
	region    string
	prefix    string
	name      string
	sse       encrypt.ServerSide
}

// NewS3 returns a store in a bucket that exists. It does no I/O.
func NewS3(opts S3Options) (*S3, error) {
	u, err := url.Parse(opts.Endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" {
		return nil, fmt.Errorf("store: S3 endpoint %q: want http://host:port or https://host:port", opts.Endpoint)
	}
	if opts.Bucket == "" {
		return nil, errors.New("store: S3 bucket is not set")
	}
	prefix := strings.Trim(opts.Prefix, "/")
	if prefix != "" {
		if err := CheckKey(prefix); err != nil {
			return nil, fmt.Errorf("store: S3 prefix: %w", err)
		}
		prefix += "/"
	}
	creds := opts.Credentials
	if creds == nil {
		if creds, err = (&Keys{Region: opts.Region}).Credentials(); err != nil {
			return nil, err
		}
	}
	transport := &transport{secure: u.Scheme == "https", tls: opts.TLS, wait: opts.ResponseTimeout}
	if transport.wait <= 0 {
		transport.wait = time.Minute
	}
	if _, err := transport.present(); err != nil {
		return nil, fmt.Errorf("store: S3 transport: %w", err)
	}
	region, retries := opts.Region, opts.MaxRetries
	if region == "" {
		region = "us-east-1"
	}
	if retries <= 0 {
		retries = 3
	}
	client, err := minio.New(u.Host, &minio.Options{
		Creds: creds, Secure: u.Scheme == "https", Region: region, Transport: transport, MaxRetries: retries,
	})
	if err != nil {
		return nil, fmt.Errorf("store: S3 client: %w", err)
	}
	return &S3{client: client, transport: transport, bucket: opts.Bucket, region: region, prefix: prefix,
		sse: opts.SSE, name: fmt.Sprintf("%s/%s/%s", strings.TrimSuffix(opts.Endpoint, "/"), opts.Bucket, prefix)}, nil
}

// String implements Store.
func (s *S3) String() string { return s.name }

// Close drops idle connections.
func (s *S3) Close() error {
	s.transport.close()
	return nil
}

// HasBucket says whether the bucket is there.
func (s *S3) HasBucket(ctx context.Context) (bool, error) {
	there, err := s.client.BucketExists(ctx, s.bucket)
	if err != nil {
		return false, fmt.Errorf("store: look at bucket %s: %w", s.bucket, err)
	}
	return there, nil
}

// MakeBucket makes the bucket, in the region of the options. It returns ErrExists if these keys' account has it.
func (s *S3) MakeBucket(ctx context.Context) error {
	err := s.client.MakeBucket(ctx, s.bucket, minio.MakeBucketOptions{Region: s.region})
	if minio.ToErrorResponse(err).Code == minio.BucketAlreadyOwnedByYou {
		return fmt.Errorf("store: make bucket %s: %w", s.bucket, ErrExists)
	}
	if err != nil {
		return fmt.Errorf("store: make bucket %s: %w", s.bucket, err)
	}
	return nil
}

// Put implements Store.
func (s *S3) Put(ctx context.Context, key string, data []byte) error {
	return s.put(ctx, key, data, minio.PutObjectOptions{DisableMultipart: true, ContentType: contentType(key)})
}

// PutIfAbsent implements Store.
func (s *S3) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	opts := minio.PutObjectOptions{DisableMultipart: true, ContentType: contentType(key)}
	opts.SetMatchETagExcept("*")
	return s.taken(ctx, key, s.put(ctx, key, data, opts))
}

// PutStreamIfAbsent implements Store. The client sends such a request once, as it cannot begin it again.
func (s *S3) PutStreamIfAbsent(ctx context.Context, key string, size int64, write func(io.Writer) error) error {
	opts := minio.PutObjectOptions{DisableMultipart: true, ContentType: contentType(key)}
	opts.SetMatchETagExcept("*")
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := stream(w, size, write)
		_ = w.CloseWithError(err) // nil is the end; it never fails
		written <- err
	}()
	err := s.send(ctx, key, r, size, opts)
	_ = r.CloseWithError(errSent) // ends write, if it still goes on
	if werr := <-written; werr != nil && !errors.Is(werr, errSent) {
		return werr
	}
	return s.taken(ctx, key, err)
}

// errSent says to whoever writes a stream that its request has ended.
var errSent = errors.New("store: the request has ended")

func (s *S3) put(ctx context.Context, key string, data []byte, opts minio.PutObjectOptions) error {
	return s.send(ctx, key, bytes.NewReader(data), int64(len(data)), opts)
}

func (s *S3) send(ctx context.Context, key string, r io.Reader, size int64, opts minio.PutObjectOptions) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	opts.ServerSideEncryption = s.sse
	_, err := s.client.PutObject(ctx, s.bucket, s.prefix+key, r, size, opts)
	if err == nil {
		return nil
	}
	if minio.ToErrorResponse(err).StatusCode == http.StatusPreconditionFailed {
		return fmt.Errorf("put %s: %w", key, ErrExists)
	}
	// After a 409 too (a concurrent conditional request) the outcome is not known: the caller reads back and repeats.
	return fmt.Errorf("store: put %s: %w", key, err)
}

// taken turns the error of a conditional put that has ended without an answer into ErrExists if an object stands under
// the key. A server may refuse such a request by its header and close the connection while the body is on its way; what
// the client sees then is often not the answer but a connection that was reset (RFC 9112, section 9.6).
func (s *S3) taken(ctx context.Context, key string, err error) error {
	var answer minio.ErrorResponse
	if err == nil || errors.Is(err, ErrExists) || errors.Is(err, ErrKey) || errors.As(err, &answer) ||
		ctx.Err() != nil {
		return err
	}
	if _, serr := s.client.StatObject(ctx, s.bucket, s.prefix+key, minio.StatObjectOptions{}); serr != nil {
		return err
	}
	return fmt.Errorf("%w: %w", ErrExists, err)
}

// Get implements Store.
func (s *S3) Get(ctx context.Context, key string) ([]byte, error) {
	if err := CheckForeign(key); err != nil {
		return nil, err
	}
	obj, err := s.client.GetObject(ctx, s.bucket, s.prefix+key, minio.GetObjectOptions{ServerSideEncryption: s.sse})
	if err != nil {
		return nil, s.getError(key, err)
	}
	var buf bytes.Buffer
	_, err = io.Copy(&buf, obj)
	if cerr := obj.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, s.getError(key, err)
	}
	return buf.Bytes(), nil
}

// GetRange implements Store.
func (s *S3) GetRange(ctx context.Context, key string, off int64, p []byte) (r Range, err error) {
	if err := CheckForeign(key); err != nil {
		return r, err
	}
	opts := minio.GetObjectOptions{ServerSideEncryption: s.sse}
	from, to := off, off+int64(len(p))-1
	if off < 0 {
		from, to = 0, -int64(len(p))
	}
	if err := opts.SetRange(from, to); err != nil {
		return r, fmt.Errorf("store: get %s: %w", key, err)
	}
	body, info, header, err := minio.Core{Client: s.client}.GetObject(ctx, s.bucket, s.prefix+key, opts)
	if err != nil {
		if minio.ToErrorResponse(err).StatusCode == http.StatusRequestedRangeNotSatisfiable {
			return r, fmt.Errorf("store: get %s: %w", key, ErrRange)
		}
		return r, s.getError(key, err)
	}
	r, err = rangeOf(body, info, header.Get("Content-Range"), off, p)
	if cerr := body.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return Range{}, fmt.Errorf("store: get %s: %w", key, err)
	}
	return r, nil
}

// rangeOf reads the answer to a request for a range: a part of the object, or all of it from a server that does not
// know ranges.
func rangeOf(body io.Reader, info minio.ObjectInfo, contentRange string, off int64, p []byte) (r Range, err error) {
	r.Size, r.Image = info.Size, info.ETag
	begin, whole := int64(0), contentRange == ""
	if !whole {
		var last int64
		if _, err := fmt.Sscanf(contentRange, "bytes %d-%d/%d", &begin, &last, &r.Size); err != nil {
			return r, fmt.Errorf("answer with Content-Range %q: %w", contentRange, err)
		}
	}
	if off < 0 {
		off = max(0, r.Size-int64(len(p)))
	}
	if off >= r.Size {
		return r, ErrRange
	}
	switch {
	case whole:
		if _, err := io.CopyN(io.Discard, body, off); err != nil {
			return r, err
		}
	case begin != off:
		return r, fmt.Errorf("answer with Content-Range %q to a request from %d on", contentRange, off)
	}
	r.N, err = io.ReadFull(body, p[:min(int64(len(p)), r.Size-off)])
	return r, err
}

func (s *S3) getError(key string, err error) error {
	// Only a missing key is "not found"; a missing bucket is a wrong configuration.
	if minio.ToErrorResponse(err).Code == minio.NoSuchKey {
		return fmt.Errorf("get %s: %w", key, ErrNotFound)
	}
	return fmt.Errorf("store: get %s: %w", key, err)
}

// List implements Store.
func (s *S3) List(ctx context.Context, prefix, startAfter string, yield func(Info) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	opts := minio.ListObjectsOptions{Prefix: s.prefix + prefix, Recursive: true}
	if startAfter != "" {
		opts.StartAfter = s.prefix + startAfter
	}
	for obj := range s.client.ListObjectsIter(ctx, s.bucket, opts) {
		if obj.Err != nil {
			return fmt.Errorf("store: list %s: %w", prefix, obj.Err)
		}
		key := strings.TrimPrefix(obj.Key, s.prefix)
		if key <= startAfter {
			continue // some stores ignore start-after
		}
		if err := yield(Info{Key: key, Size: obj.Size, Modified: obj.LastModified}); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// Delete implements Store.
func (s *S3) Delete(ctx context.Context, key string) error {
	if err := CheckForeign(key); err != nil {
		return err
	}
	if err := s.client.RemoveObject(ctx, s.bucket, s.prefix+key, minio.RemoveObjectOptions{}); err != nil {
		return fmt.Errorf("store: delete %s: %w", key, err)
	}
	return nil
}

func contentType(key string) string {
	if strings.HasSuffix(key, ".json") {
		return "application/json"
	}
	return "application/octet-stream"
}
