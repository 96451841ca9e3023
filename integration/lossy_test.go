package integration

import (
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
)

// fault is what a lossy proxy does with a request.
type fault int

const (
	pass       fault = iota
	slowDown         // 503, and the server never sees it
	conflict         // 409, as S3 answers one of two conditional requests at the same time
	lostAnswer       // the server does it, the client gets 503
	cutAnswer        // the server does it, the connection ends before the answer
)

// lossy is a proxy before an S3 server, which fails requests.
type lossy struct {
	addr string
	rule atomic.Pointer[func(*http.Request) fault]
}

// startLossy starts a proxy that passes everything on, until set says otherwise.
func startLossy(t *testing.T, target string) *lossy {
	t.Helper()
	l := &lossy{}
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: target})
			r.Out.Host = r.In.Host // it is signed
		},
		ModifyResponse: func(r *http.Response) error {
			switch r.Request.Header.Get(faultHeader) {
			case "lost":
				return errLost
			case "cut":
				return errCut
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			if err == errCut { // ModifyResponse's own, or that of a server that is down
				panic(http.ErrAbortHandler)
			}
			s3Answer(w, http.StatusServiceUnavailable, "SlowDown")
		},
		ErrorLog: log.New(io.Discard, "", 0),
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	l.addr = ln.Addr().String()
	srv := &http.Server{ErrorLog: log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			f := pass
			if rule := l.rule.Load(); rule != nil {
				f = (*rule)(r)
			}
			switch f {
			case slowDown:
				s3Answer(w, http.StatusServiceUnavailable, "SlowDown")
				return
			case conflict:
				s3Answer(w, http.StatusConflict, "ConditionalRequestConflict")
				return
			case lostAnswer:
				r.Header.Set(faultHeader, "lost")
			case cutAnswer:
				r.Header.Set(faultHeader, "cut")
			}
			forward.ServeHTTP(w, r)
		})}
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { must(t, srv.Close()) })
	return l
}

// set makes the rule by which requests fail.
func (l *lossy) set(rule func(*http.Request) fault) { l.rule.Store(&rule) }

const faultHeader = "X-Fault"

type proxyError string

func (e proxyError) Error() string { return string(e) }

const (
	errLost = proxyError("the answer is lost")
	errCut  = proxyError("the connection is cut")
)

func s3Answer(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, "<Error><Code>"+code+"</Code><Message>a fault of the test</Message></Error>")
}
