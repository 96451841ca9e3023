package objects

import (
	"bufio"
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// S3 is an http.Handler with the few S3 requests that package store sends, for one bucket, in path style. It does not
// check signatures.
type S3 struct {
	Bucket string

	mu      sync.Mutex
	objects map[string]object

	// IgnoreConditions makes it a store without conditional PUT.
	IgnoreConditions bool
	// Fault, if set, may answer a request in place of the server, before or after a put took effect: a status other
	// than 0 is sent.
	Fault func(r *http.Request, applied bool) int
	// Missing says that the bucket is not there until it is made.
	Missing bool
	// PageSize limits a listing; default 1000.
	PageSize int
}

// ServeHTTP implements http.Handler.
func (s *S3) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/"+s.Bucket)
	if path == r.URL.Path {
		s3Error(w, http.StatusNotFound, "NoSuchBucket")
		return
	}
	key := strings.TrimPrefix(path, "/")
	if s.Fault != nil {
		if code := s.Fault(r, false); code != 0 {
			s3Error(w, code, "InternalError")
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.objects == nil {
		s.objects = map[string]object{}
	}
	switch {
	case key == "" && r.Method == http.MethodPut:
		if !s.Missing {
			s3Error(w, http.StatusConflict, "BucketAlreadyOwnedByYou")
		}
		s.Missing = false
	case s.Missing:
		s3Error(w, http.StatusNotFound, "NoSuchBucket")
	case key == "" && r.Method == http.MethodHead:
	case r.Method == http.MethodGet && key == "":
		s.list(w, r)
	case r.Method == http.MethodPost && key == "" && r.URL.Query().Has("delete"):
		s.remove(w, r)
	case r.Method == http.MethodPut:
		s.put(w, r, key)
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		o, ok := s.objects[key]
		if !ok {
			s3Error(w, http.StatusNotFound, "NoSuchKey")
			return
		}
		w.Header().Set("ETag", etag(o.data))
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(w, r, "", o.modified, bytes.NewReader(o.data)) // ranges, too
	case r.Method == http.MethodDelete:
		delete(s.objects, key)
		w.WriteHeader(http.StatusNoContent)
	default:
		s3Error(w, http.StatusMethodNotAllowed, "MethodNotAllowed")
	}
}

// remove answers a DeleteObjects request.
func (s *S3) remove(w http.ResponseWriter, r *http.Request) {
	type named struct{ Key string }
	var asked struct{ Object []named }
	data, err := body(r)
	if err == nil {
		err = xml.Unmarshal(data, &asked)
	}
	if err != nil || len(asked.Object) > 1000 {
		s3Error(w, http.StatusBadRequest, "MalformedXML")
		return
	}
	res := struct {
		XMLName xml.Name `xml:"DeleteResult"`
		Deleted []named
	}{}
	for _, o := range asked.Object {
		delete(s.objects, o.Key)
		res.Deleted = append(res.Deleted, o)
	}
	w.Header().Set("Content-Type", "application/xml")
	_ = xml.NewEncoder(w).Encode(res)
}

func (s *S3) put(w http.ResponseWriter, r *http.Request, key string) {
	if r.URL.Query().Has("uploadId") {
		s3Error(w, http.StatusNotImplemented, "NotImplemented")
		return
	}
	data, err := body(r)
	if err != nil {
		s3Error(w, http.StatusBadRequest, "IncompleteBody")
		return
	}
	if _, ok := s.objects[key]; ok && r.Header.Get("If-None-Match") == "*" && !s.IgnoreConditions {
		s3Error(w, http.StatusPreconditionFailed, "PreconditionFailed")
		return
	}
	s.objects[key] = object{data: data, modified: time.Now()}
	if s.Fault != nil {
		if code := s.Fault(r, true); code != 0 {
			s3Error(w, code, "InternalError")
			return
		}
	}
	w.Header().Set("ETag", etag(data))
}

// body undoes the chunked signing that the client uses without TLS.
func body(r *http.Request) ([]byte, error) {
	if !strings.HasPrefix(r.Header.Get("X-Amz-Content-Sha256"), "STREAMING-") {
		return io.ReadAll(r.Body)
	}
	var data []byte
	br := bufio.NewReader(r.Body)
	for {
		line, err := br.ReadString('\n')
		if err != nil {
			return nil, err
		}
		size, _, _ := strings.Cut(strings.TrimSpace(line), ";")
		n, err := strconv.ParseInt(size, 16, 32)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			_, err := io.Copy(io.Discard, br)
			return data, err
		}
		chunk := make([]byte, n+2)
		if _, err := io.ReadFull(br, chunk); err != nil {
			return nil, err
		}
		data = append(data, chunk[:n]...)
	}
}

type listResult struct {
	XMLName               xml.Name `xml:"ListBucketResult"`
	Name                  string
	Prefix                string
	KeyCount              int
	IsTruncated           bool
	NextContinuationToken string `xml:",omitempty"`
	Contents              []listEntry
}

type listEntry struct {
	Key          string
	LastModified string
	ETag         string
	Size         int
}

func (s *S3) list(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	after := max(q.Get("start-after"), q.Get("continuation-token"))
	page := s.PageSize
	if page == 0 {
		page = 1000
	}
	var keys []string
	for k := range s.objects {
		if strings.HasPrefix(k, q.Get("prefix")) && k > after {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	res := listResult{Name: s.Bucket, Prefix: q.Get("prefix")}
	if len(keys) > page {
		keys = keys[:page]
		res.IsTruncated, res.NextContinuationToken = true, keys[page-1]
	}
	for _, k := range keys {
		o := s.objects[k]
		res.Contents = append(res.Contents, listEntry{k, o.modified.UTC().Format("2006-01-02T15:04:05.000Z"),
			etag(o.data), len(o.data)})
	}
	res.KeyCount = len(keys)
	w.Header().Set("Content-Type", "application/xml")
	_ = xml.NewEncoder(w).Encode(res)
}

func s3Error(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code><Message>%s</Message></Error>", code, code)
}

func etag(data []byte) string {
	sum := md5.Sum(data)
	return `"` + hex.EncodeToString(sum[:]) + `"`
}
