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
type Text struct{ value atomic.Pointer[string] }

const hidden = "***"

// Text reads the secret in the file at path, now and whenever it has changed. One line break at its end does not belong
// to it; an empty secret is an error. key is the configuration key that names the file.
func (f *Files) Text(key, path string) (*Text, error) {
	t := &Text{}
	err := f.Bytes(key, path, func(b []byte) error {
		v := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
		if v == "" {
			return errors.New("the secret's file is empty")
		}
		t.value.Store(&v)
		return nil
	})
	if err != nil {
		return nil, err
	}
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
