// Package sts gives keys of S3 that end: as a security token service (AssumeRoleWithWebIdentity, AssumeRole) and as the
// metadata service of a machine (IMDSv2). It refuses, before a store that it guards, whatever is not signed with keys
// that are good at that moment.
//
//	token, or keys of an account ──► Server ──► access key, secret key, session token, end
//	request to the store ──► Guard ──► signature, session token and end are good? ──► store
package sts

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Server gives keys. Its fields are set before it serves, and changed by Set alone from then on.
type Server struct {
	// Life is how long keys are good. Their end is told in whole seconds, as AWS does it, and therefore up to a second
	// earlier.
	Life time.Duration
	// Role is what may be assumed, and the role of the machine.
	Role string
	// Token is the web identity token that may assume it.
	Token string
	// AccessKey and SecretKey are those of the account that may assume it, with ExternalID if that is set.
	AccessKey, SecretKey, ExternalID string
	// Down makes it answer 503.
	Down bool

	mu       sync.Mutex
	given    map[string]keys // by access key
	imds     map[string]bool // tokens of the metadata service
	refused  []string        // codes of requests to the store
	requests int             // to the store
	least    time.Duration   // that keys were good for when they were used
}

type keys struct {
	secret, token string
	end           time.Time
}

// Set changes the server while it serves.
func (s *Server) Set(change func(s *Server)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

// Stats are what a Server has seen.
type Stats struct {
	Given    int           // keys
	Requests int           // to the store
	Refused  []string      // their codes
	Least    time.Duration // that keys were good for, of all that were used
}

// Stats returns what the server has seen so far.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{len(s.given), s.requests, slices.Clone(s.refused), s.least}
}

const (
	tokenPath  = "/latest/api/token"
	rolesPath  = "/latest/meta-data/iam/security-credentials/"
	tokenTTL   = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
	imdsHeader = "X-Aws-Ec2-Metadata-Token"
)

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.Down:
		http.Error(w, "down", http.StatusServiceUnavailable)
	case r.Method == http.MethodPost:
		s.assume(w, r)
	case r.Method == http.MethodPut && r.URL.Path == tokenPath && r.Header.Get(tokenTTL) != "":
		if s.imds == nil {
			s.imds = map[string]bool{}
		}
		token := rand.Text()
		s.imds[token] = true
		_, _ = io.WriteString(w, token)
	case !s.imds[r.Header.Get(imdsHeader)]: // as a machine answers that takes IMDSv2 alone
		http.Error(w, "no session token", http.StatusUnauthorized)
	case r.Method == http.MethodGet && r.URL.Path == rolesPath:
		_, _ = io.WriteString(w, s.Role)
	case r.Method == http.MethodGet && r.URL.Path == rolesPath+s.Role:
		id, k := s.give()
		_ = json.NewEncoder(w).Encode(map[string]string{"Code": "Success", "AccessKeyId": id,
			"SecretAccessKey": k.secret, "Token": k.token, "Expiration": k.end.Format(time.RFC3339)})
	default:
		http.NotFound(w, r)
	}
}

// give makes keys.
func (s *Server) give() (id string, k keys) {
	if s.given == nil {
		s.given = map[string]keys{}
	}
	id = fmt.Sprint("ASIA", len(s.given)+1)
	k = keys{rand.Text(), rand.Text(), time.Now().Add(s.Life).Truncate(time.Second).UTC()}
	s.given[id] = k
	return id, k
}

// assume answers a request for a role.
func (s *Server) assume(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		stsError(w, http.StatusBadRequest, "InvalidRequest", err.Error())
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	_ = r.ParseForm()
	action := r.Form.Get("Action")
	switch {
	case action == "AssumeRoleWithWebIdentity" && r.Form.Get("WebIdentityToken") != s.Token:
		stsError(w, http.StatusBadRequest, "InvalidIdentityToken", "The web identity token that was passed could not "+
			"be validated by AWS")
		return
	case action == "AssumeRole":
		if id, _ := signer(r); id != s.AccessKey {
			stsError(w, http.StatusForbidden, "InvalidClientTokenId", "The security token included in the request is "+
				"invalid")
			return
		}
		if !signed(r, s.SecretKey, body) {
			stsError(w, http.StatusForbidden, "SignatureDoesNotMatch", "The request signature we calculated does not "+
				"match the signature you provided")
			return
		}
	case action != "AssumeRoleWithWebIdentity":
		stsError(w, http.StatusBadRequest, "InvalidAction", "there is no action "+action)
		return
	}
	if r.Form.Get("RoleArn") != s.Role || action == "AssumeRole" && r.Form.Get("ExternalId") != s.ExternalID {
		stsError(w, http.StatusForbidden, "AccessDenied", "User is not authorized to perform: sts:"+action+
			" on resource: "+r.Form.Get("RoleArn"))
		return
	}
	id, k := s.give()
	_, _ = fmt.Fprintf(w, `<%[1]sResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><%[1]sResult><Credentials>`+
		`<AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><SessionToken>%s</SessionToken>`+
		`<Expiration>%s</Expiration></Credentials></%[1]sResult></%[1]sResponse>`, action, id, k.secret, k.token,
		k.end.Format(time.RFC3339))
}

func stsError(w http.ResponseWriter, status int, code, message string) {
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Code>%s</Code>`+
		`<Message>%s</Message></Error></ErrorResponse>`, code, message)
}

// Guard lets requests to a store through if they are signed with keys that the server has given, and that have not
// ended.
func (s *Server) Guard(store http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		code, message := s.check(r)
		if code == "" {
			store.ServeHTTP(w, r)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusForbidden)
		_ = xml.NewEncoder(w).Encode(struct {
			XMLName       xml.Name `xml:"Error"`
			Code, Message string
		}{Code: code, Message: message})
	})
}

func (s *Server) check(r *http.Request) (code, message string) {
	id, _ := signer(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	k, known := s.given[id]
	left := time.Until(k.end)
	switch {
	case !known:
		code, message = "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."
	case r.Header.Get("X-Amz-Security-Token") != k.token:
		code, message = "InvalidToken", "The provided token is malformed or otherwise invalid."
	case !signed(r, k.secret, nil):
		code, message = "SignatureDoesNotMatch", "The request signature we calculated does not match the signature "+
			"you provided."
	case left <= 0:
		code, message = "ExpiredToken", "The provided token has expired."
	}
	if s.requests++; code != "" {
		s.refused = append(s.refused, code)
	} else if s.least == 0 || left < s.least {
		s.least = left
	}
	return code, message
}

// signer returns who has signed a request, and what besides stands in its Authorization.
func signer(r *http.Request) (id string, fields map[string]string) {
	rest, ok := strings.CutPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ")
	if !ok {
		return "", nil
	}
	fields = map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		fields[name] = value
	}
	id, fields["scope"], _ = strings.Cut(fields["Credential"], "/")
	return id, fields
}

// signed says whether the signature of a request (AWS Signature Version 4, in its headers) is that of the secret. body
// is what it was signed with if the request does not tell its hash.
func signed(r *http.Request, secret string, body []byte) bool {
	_, f := signer(r)
	scope := strings.Split(f["scope"], "/") // date, region, service, aws4_request
	if len(scope) != 4 {
		return false
	}
	payload := r.Header.Get("X-Amz-Content-Sha256")
	if payload == "" {
		sum := sha256.Sum256(body)
		payload = hex.EncodeToString(sum[:])
	}
	var headers strings.Builder
	for name := range strings.SplitSeq(f["SignedHeaders"], ";") {
		value := strings.Join(r.Header.Values(name), ",")
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = fmt.Sprint(r.ContentLength)
		}
		fmt.Fprintf(&headers, "%s:%s\n", name, strings.Join(strings.Fields(value), " "))
	}
	request := strings.Join([]string{r.Method, r.URL.EscapedPath(), strings.ReplaceAll(r.URL.Query().Encode(), "+",
		"%20"), headers.String(), f["SignedHeaders"], payload}, "\n")
	sum := sha256.Sum256([]byte(request))
	text := strings.Join([]string{"AWS4-HMAC-SHA256", r.Header.Get("X-Amz-Date"), f["scope"],
		hex.EncodeToString(sum[:])}, "\n")
	key := []byte("AWS4" + secret)
	for _, part := range append(scope, text) {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	want, err := hex.DecodeString(f["Signature"])
	return err == nil && hmac.Equal(key, want)
}
