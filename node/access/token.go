package access

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

const (
	prefix       = "dkl_"
	idLength     = 8
	secretLength = 43 // of 32 bytes in base64url
	tokenLength  = len(prefix) + idLength + 1 + secretLength
	localID      = "thisnode" // of the token that a node writes for the commands of its own machine

	// MaxTokens is how many tokens a file may have.
	MaxTokens = 10_000
	// MaxTTL is how long a token may live.
	MaxTTL = 10 * 365 * 24 * time.Hour
	// DefaultTTL is how long a token lives if nobody says it.
	DefaultTTL = 90 * 24 * time.Hour
)

// Token is one line of a file of tokens.
type Token struct {
	ID      string    `json:"id"`
	Hash    string    `json:"hash"` // SHA-256 of the whole token, hexadecimal
	Role    Role      `json:"role"`
	Brands  []string  `json:"brands,omitempty"`
	Name    string    `json:"name,omitempty"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
}

// NewToken makes a token for a role, which expires after ttl. secret is the whole token: it is told once.
func NewToken(role Role, brands []string, name string, now time.Time, ttl time.Duration) (t *Token, secret string,
	err error) {
	if ttl <= 0 || ttl > MaxTTL {
		return nil, "", fmt.Errorf("a token lives for more than 0 and at most %d days", MaxTTL/(24*time.Hour))
	}
	if len(name) > 200 || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return nil, "", errors.New("a name has at most 200 bytes and no control characters")
	}
	now = now.UTC().Truncate(time.Second)
	t = &Token{ID: newID(), Role: role, Brands: brands, Name: name, Created: now, Expires: now.Add(ttl)}
	secret, t.Hash = newSecret(t.ID)
	if err := t.check(); err != nil {
		return nil, "", err
	}
	return t, secret, nil
}

func newID() string {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	id := make([]byte, 0, idLength)
	for len(id) < idLength {
		var b [1]byte
		_, _ = rand.Read(b[:])       // never fails
		if n := int(b[0]); n < 252 { // 7 × 36: each letter as likely as another
			id = append(id, letters[n%len(letters)])
		}
	}
	if string(id) == localID {
		return newID()
	}
	return string(id)
}

func newSecret(id string) (token, hash string) {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	token = prefix + id + "_" + base64.RawURLEncoding.EncodeToString(b[:])
	return token, hashOf(token)
}

func hashOf(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// idOf returns the id of a token, "" if it has not the form of one.
func idOf(token string) string {
	if len(token) != tokenLength || !strings.HasPrefix(token, prefix) || token[len(prefix)+idLength] != '_' {
		return ""
	}
	if id := token[len(prefix) : len(prefix)+idLength]; isID(id) {
		return id
	}
	return ""
}

func isID(id string) bool {
	return len(id) == idLength && !strings.ContainsFunc(id, func(r rune) bool {
		return !('a' <= r && r <= 'z' || '0' <= r && r <= '9')
	})
}

func (t *Token) check() error {
	switch sum, err := hex.DecodeString(t.Hash); {
	case !isID(t.ID):
		return fmt.Errorf("id %q: an id has %d characters of a-z and 0-9", t.ID, idLength)
	case t.ID == localID:
		return fmt.Errorf("id %q is a node's own", t.ID)
	case err != nil || len(sum) != sha256.Size || strings.ToLower(t.Hash) != t.Hash:
		return fmt.Errorf("token %s: its hash is no SHA-256 in hexadecimal, lower case", t.ID)
	case t.Role == Nobody:
		return fmt.Errorf("token %s: its role is missing", t.ID)
	case t.Expires.IsZero():
		return fmt.Errorf("token %s: when it expires is missing", t.ID)
	}
	if err := checkBrands(t.Role, t.Brands); err != nil {
		return fmt.Errorf("token %s: %w", t.ID, err)
	}
	return nil
}

// ParseTokens reads a file of tokens. Errors name the line, and never show what a secret could be.
func ParseTokens(text []byte) ([]*Token, error) {
	var out []*Token
	seen := map[string]bool{}
	n := 0
	for line := range bytes.Lines(text) {
		n++
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		t := &Token{}
		d := json.NewDecoder(bytes.NewReader(line))
		d.DisallowUnknownFields()
		if err := d.Decode(t); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if _, err := d.Token(); !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("line %d: something follows the object", n)
		}
		if err := t.check(); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if seen[t.ID] {
			return nil, fmt.Errorf("line %d: id %s stands twice", n, t.ID)
		}
		seen[t.ID] = true
		if out = append(out, t); len(out) > MaxTokens {
			return nil, fmt.Errorf("there are more than %d tokens", MaxTokens)
		}
	}
	return out, nil
}

// FormatTokens writes a file of tokens.
func FormatTokens(tokens []*Token) ([]byte, error) {
	var b bytes.Buffer
	for _, t := range tokens {
		line, err := json.Marshal(t)
		if err != nil {
			return nil, err
		}
		b.Write(append(line, '\n'))
	}
	return b.Bytes(), nil
}

// is says whether a token is this one. It takes as long for a wrong one as for the right one.
func (t *Token) is(token string) bool {
	return subtle.ConstantTimeCompare([]byte(hashOf(token)), []byte(t.Hash)) == 1
}
