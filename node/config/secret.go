package config

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// Secret comes from the environment or from a file, never from the YAML itself: {env: NAME} or {file: PATH}. It prints
// as ***.
type Secret struct {
	Env  string `yaml:"env"`
	File string `yaml:"file"`

	value string
}

const hidden = "***"

// SecretValue returns a secret with a given value, for configurations built in Go.
func SecretValue(value string) Secret { return Secret{value: value} }

// Value returns the secret itself. There is no other way to get it.
func (s Secret) Value() string { return s.value }

// IsSet says whether the secret has a value or names where it comes from.
func (s Secret) IsSet() bool { return s.value != "" || s.Env != "" || s.File != "" }

// String returns ***, so that no log or message can show the value.
func (s Secret) String() string { return hidden }

// GoString returns ***, for %#v.
func (s Secret) GoString() string { return hidden }

// Format writes *** for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// LogValue returns ***, for slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalYAML returns ***.
func (s Secret) MarshalYAML() ([]byte, error) { return []byte(`"` + hidden + `"`), nil }

// MarshalJSON returns "***".
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + hidden + `"`), nil }

// resolve reads the value from where the configuration says it is. One line break at the end of a file is removed.
func (s *Secret) resolve(env func(string) (string, bool), readFile func(string) ([]byte, error)) error {
	switch {
	case s.Env != "" && s.File != "":
		return errors.New("give either env or file, not both")
	case s.Env != "":
		v, ok := env(s.Env)
		if !ok || v == "" {
			return fmt.Errorf("the environment variable %s is not set: export it before the start", s.Env)
		}
		s.value = v
	case s.File != "":
		b, err := readFile(s.File)
		if err != nil {
			return fmt.Errorf("the secret's file cannot be read: %w", err)
		}
		if b, err = withoutMark(b); err != nil {
			return fmt.Errorf("the secret's file %s: %w", s.File, err)
		}
		v := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
		if v == "" {
			return fmt.Errorf("the secret's file %s is empty", s.File)
		}
		s.value = v
	default:
		return errors.New("give env: NAME or file: PATH")
	}
	return nil
}
