// Package release has no code: its test looks at what make release has made.
package release

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// dist is the folder of the packages, as make release names it.
func dist(t *testing.T) string {
	dir := os.Getenv("DECKLE_TEST_RELEASE")
	if dir == "" {
		t.Skip("DECKLE_TEST_RELEASE does not name a folder of packages: make release")
	}
	return dir
}

func glob(t *testing.T, pattern string) []string {
	files, err := filepath.Glob(filepath.Join(dist(t), pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: none, %v", pattern, err)
	}
	return files
}

// Every file has its sum, and is what the sum says.
func TestSums(t *testing.T) {
	f, err := os.Open(filepath.Join(dist(t), "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	sums := map[string]string{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if p := strings.Fields(lines.Text()); len(p) == 2 {
			sums[p[1]] = p[0]
		}
	}
	for _, path := range glob(t, "deckle_*") {
		g, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		h := sha256.New()
		_, err = io.Copy(h, g)
		_ = g.Close()
		if err != nil || sums[filepath.Base(path)] != hex.EncodeToString(h.Sum(nil)) {
			t.Errorf("%s: %v, its sum is another", path, err)
		}
	}
}

// runs checks that a binary tells its version, if it is for this machine.
func runs(t *testing.T, binary, path string) {
	t.Helper()
	if !strings.Contains(filepath.Base(path), "linux_"+runtime.GOARCH+".") || runtime.GOOS != "linux" {
		return
	}
	want, err := os.ReadFile("../../VERSION")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(binary, "version", "--json").CombinedOutput()
	var v struct{ Version, Arch string }
	if err != nil || json.Unmarshal(out, &v) != nil || v.Arch != runtime.GOARCH ||
		v.Version != strings.TrimSpace(string(want)) && os.Getenv("VERSION") == "" {
		t.Errorf("%s: %v: %s", binary, err, out)
	}
}

// A deb names itself, has the files with modes that fit, and its binary runs.
func TestDeb(t *testing.T) {
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		t.Skip("dpkg-deb is not here")
	}
	for _, path := range glob(t, "*.deb") {
		arch := strings.TrimSuffix(path[strings.LastIndex(path, "_")+1:], ".deb")
		info, err := exec.Command("dpkg-deb", "--info", path).CombinedOutput()
		if err != nil || !strings.Contains(string(info), "Package: deckle\n") ||
			!strings.Contains(string(info), "Architecture: "+arch+"\n") {
			t.Errorf("%v\n%s", err, info)
		}
		list, err := exec.Command("dpkg-deb", "--contents", path).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, list)
		}
		modes := map[string]string{}
		for lines := bufio.NewScanner(bytes.NewReader(list)); lines.Scan(); {
			if f := strings.Fields(lines.Text()); len(f) == 6 && f[1] == "root/root" {
				modes[strings.Trim(f[5], "./")] = f[0]
			}
		}
		for name, mode := range map[string]string{"usr/bin/deckle": "-rwxr-xr-x", "etc/deckle": "drwxr-x---",
			"usr/lib/systemd/system/deckle.service":    "-rw-r--r--",
			"usr/lib/sysusers.d/deckle.conf":           "-rw-r--r--",
			"usr/share/doc/deckle/copyright":           "-rw-r--r--",
			"usr/share/doc/deckle/rights/kafka.sh":     "-rwxr-xr-x",
			"usr/share/doc/deckle/configuration.md":    "-rw-r--r--",
			"usr/share/doc/deckle/operations.md":       "-rw-r--r--",
			"usr/share/doc/deckle/deckle.example.yaml": "-rw-r--r--"} {
			if modes[name] != mode {
				t.Errorf("%s: %s is %q, want %s", filepath.Base(path), name, modes[name], mode)
			}
		}
		dir := t.TempDir()
		if out, err := exec.Command("dpkg-deb", "--raw-extract", path, dir).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for _, script := range []string{"postinst", "prerm", "postrm"} {
			if out, err := exec.Command("sh", "-n", filepath.Join(dir, "DEBIAN", script)).CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", script, err, out)
			}
		}
		runs(t, filepath.Join(dir, "usr/bin/deckle"), path)
	}
}

// An rpm is one, and rpm reads it where it is.
func TestRPM(t *testing.T) {
	for _, path := range glob(t, "*.rpm") {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		magic := make([]byte, 4)
		_, err = io.ReadFull(f, magic)
		_ = f.Close()
		if err != nil || !bytes.Equal(magic, []byte{0xed, 0xab, 0xee, 0xdb}) {
			t.Errorf("%s: %v, begins with %x", path, err, magic)
		}
		if _, err := exec.LookPath("rpm"); err != nil {
			t.Log("rpm is not here")
			continue
		}
		out, err := exec.Command("rpm", "-qpl", path).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "/usr/bin/deckle\n") {
			t.Errorf("%v\n%s", err, out)
		}
	}
}

// A tar has one folder of its own name, and its binary runs.
func TestTar(t *testing.T) {
	for _, path := range glob(t, "*.tar.gz") {
		dir := t.TempDir()
		if out, err := exec.Command("tar", "-xzf", path, "-C", dir).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		runs(t, filepath.Join(dir, strings.TrimSuffix(filepath.Base(path), ".tar.gz"), "deckle"), path)
	}
}

// An SBOM names the modules of the binary with their versions.
func TestSBOM(t *testing.T) {
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range glob(t, "*.cdx.json") {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var s struct {
			Format     string `json:"bomFormat"`
			Components []struct{ Name, Version string }
		}
		if err := json.Unmarshal(b, &s); err != nil || s.Format != "CycloneDX" {
			t.Fatalf("%s: %v, %s", path, err, s.Format)
		}
		found := map[string]string{}
		for _, c := range s.Components {
			found[c.Name] = c.Version
		}
		for _, name := range []string{"github.com/cockroachdb/pebble/v2", "github.com/hashicorp/raft",
			"github.com/twmb/franz-go"} {
			if found[name] == "" || !strings.Contains(string(mod), "\t"+name+" "+found[name]+"\n") {
				t.Errorf("%s: %s %q", filepath.Base(path), name, found[name])
			}
		}
	}
}
