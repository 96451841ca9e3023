package trust

import (
	"log/slog"
	"testing"
	"time"
)

// FuzzMaterial reads anything as a CA bundle, a certificate and a key. What is taken can be used, and what is not
// leaves what was in use.
func FuzzMaterial(f *testing.F) {
	ca := authority(f)
	files := pair(f, ca, "a", 10)
	roots := bundle(f, ca, ca)
	f.Add(roots, files["cert"], files["key"])
	f.Add(roots[:len(roots)-30], append(files["cert"], roots...), files["key"])
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nx: y\n\nMA==\n-----END CERTIFICATE-----\n"), files["key"], files["cert"])
	f.Add([]byte("\xef\xbb\xbf"), []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, roots, cert, key []byte) {
		good := pair(t, ca, "a", 10)
		has := map[string][]byte{"ca": bundle(t, ca), "cert": good["cert"], "key": good["key"]}
		files := NewFiles(func(path string) ([]byte, error) { return has[path], nil },
			func() time.Time { return start }, slog.New(slog.DiscardHandler))
		m, err := files.TLS("x", block)
		if err != nil {
			t.Fatal(err)
		}
		has = map[string][]byte{"ca": roots, "cert": cert, "key": key}
		files.Look()
		if m.Leaf() == nil || m.Client().RootCAs == nil || len(m.Client().Certificates) != 1 {
			t.Fatal("nothing is in use")
		}
		_ = m.VerifyOwn()
		for _, s := range files.State() {
			if s.NotAfter.IsZero() {
				t.Fatalf("%+v", s)
			}
		}
	})
}
