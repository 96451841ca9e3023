package trust

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
)

// Text is a secret in a file. It prints as ***.
type Text struct {
	path  string
	value atomic.Pointer[string]
}

const hidden = "***"

// Text reads the secret in the file at path, now and whenever it has changed. One line break at its end does not belong
// to it; an empty secret is an error. key is the configuration key that names the file. Asked for the same key and path
// again it returns the same Text.
func (f *Files) Text(key, path string) (*Text, error) {
	f.looking.Lock()
	defer f.looking.Unlock()
	if t := f.texts[key]; t != nil && t.path == path {
		return t, nil
	}
	t := &Text{path: path}
	err := f.addLocked(&watched{key: key, paths: []string{path}, take: bytesOf(path, func(b []byte) error {
		v := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
		if v == "" {
			return errors.New("the secret's file is empty")
		}
		t.value.Store(&v)
		return nil
	})})
	if err != nil {
		return nil, err
	}
	f.texts[key] = t
	return t, nil
}

// Value returns the present secret. There is no other way to get it.
func (t *Text) Value() string { return *t.value.Load() }

// String returns ***, so that no log or message can show the value.
func (t *Text) String() string { return hidden }

// Format writes *** for every verb.
func (t *Text) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// LogValue returns ***, for slog.
func (t *Text) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText returns ***, for JSON and YAML.
func (t *Text) MarshalText() ([]byte, error) { return []byte(hidden), nil }
