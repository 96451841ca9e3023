// Package deploy has no code: its tests look at what is installed.
package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"deckle/node/config"
)

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// systemd finds nothing wrong with the unit and the user, and the sandbox leaves little open.
func TestUnit(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not here")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text := read(t, "systemd/deckle.service")
	unit := filepath.Join(t.TempDir(), "deckle.service")
	if err := os.WriteFile(unit, []byte(strings.Replace(text, "/usr/bin/deckle ", self+" ", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"verify", "--man=no", unit},
		{"security", "--offline=true", "--no-pager", "--threshold=20", unit}} {
		out, err := exec.Command("systemd-analyze", args...).CombinedOutput()
		if strings.Contains(string(out), "unrecognized option") || strings.Contains(string(out), "Unknown command") {
			t.Logf("%s of this systemd-analyze: %s", args[0], out)
			continue
		}
		if err != nil || args[0] == "verify" && len(out) > 0 {
			t.Errorf("systemd-analyze %s: %v\n%s", args[0], err, out)
		}
	}
	for _, want := range []string{"Type=notify", "WatchdogSec=", "LimitNOFILE=65536", "ProtectSystem=strict",
		"User=deckle", "SystemCallFilter=@system-service", "NoNewPrivileges=true",
		"ExecReload=/bin/kill -HUP $MAINPID"} {
		if !strings.Contains(text, "\n"+want) {
			t.Errorf("%s is missing", want)
		}
	}
	sysusers, err := filepath.Abs("systemd/sysusers.conf") // a relative path is one of its own folders
	if err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("systemd-sysusers"); err == nil {
		if out, err := exec.Command("systemd-sysusers", "--dry-run", sysusers).CombinedOutput(); err != nil &&
			!strings.Contains(string(out), "unrecognized option") {
			t.Errorf("systemd-sysusers: %v\n%s", err, out)
		}
	}
}

// The image is run by nobody with rights, has what it copies, and is built from all that the binary needs.
func TestDockerfile(t *testing.T) {
	var from, user, entry string
	stages := map[string]bool{}
	text := strings.ReplaceAll(read(t, "docker/Dockerfile"), "\\\n", "")
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] == "#" {
			continue
		}
		switch f[0] {
		case "FROM":
			args := slices.DeleteFunc(f[1:], func(a string) bool { return strings.HasPrefix(a, "--") })
			from = args[0]
			if !strings.Contains(from, ":") || strings.HasSuffix(from, ":latest") {
				t.Errorf("%s has no version", from)
			}
			if len(args) == 3 {
				stages[args[2]] = true
			}
		case "COPY":
			stage := regexp.MustCompile(`--from=(\S+)`).FindStringSubmatch(line)
			if stage != nil && !stages[stage[1]] {
				t.Errorf("%s: no such stage", strings.TrimSpace(line))
			}
			for _, a := range f[1 : len(f)-1] {
				path := strings.TrimPrefix(a, "/src/")
				if strings.HasPrefix(a, "--") || strings.HasPrefix(a, "/out/") {
					continue
				}
				if _, err := os.Stat(filepath.Join("..", path)); err != nil {
					t.Errorf("COPY: %v", err)
				}
			}
		case "USER":
			user = f[1]
		case "ENTRYPOINT", "CMD":
			if entry = f[1]; !strings.HasPrefix(entry, "[") {
				t.Errorf("%s runs a shell, which is not there", f[0])
			}
		case "ADD":
			t.Errorf("ADD may fetch anything: use COPY")
		case "WORKDIR", "RUN", "ARG", "VOLUME", "EXPOSE", "STOPSIGNAL":
		default:
			t.Errorf("%s is no instruction", f[0])
		}
	}
	if from != "gcr.io/distroless/static-debian12:nonroot" || user != "65532:65532" || entry == "" {
		t.Errorf("FROM %s, USER %s, ENTRYPOINT %s", from, user, entry)
	}
	kept := strings.Fields(read(t, "docker/Dockerfile.dockerignore"))
	list := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "./cmd/deckle")
	list.Dir = ".."
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	for p := range strings.FieldsSeq(string(out)) {
		rest, ours := strings.CutPrefix(p, "deckle/")
		if ours && !slices.Contains(kept, "!"+strings.Split(rest, "/")[0]) {
			t.Errorf("docker/Dockerfile.dockerignore leaves package %s out", p)
		}
	}
	for _, k := range kept[1:] {
		if _, err := os.Stat(filepath.Join("..", strings.TrimPrefix(k, "!"))); err != nil {
			t.Errorf("docker/Dockerfile.dockerignore: %v", err)
		}
	}
}

// The compose file is YAML with versions and names that fit, publishes on loopback alone, and its configuration loads.
func TestCompose(t *testing.T) {
	type service struct {
		Image       string
		Ports       []string
		Environment map[string]string
		Volumes     []string
		DependsOn   map[string]map[string]string `yaml:"depends_on"`
	}
	var c struct {
		Services map[string]service
		Configs  map[string]struct{ Content string }
		Volumes  map[string]any
	}
	if err := yaml.Unmarshal([]byte(read(t, "docker/compose.yaml")), &c); err != nil {
		t.Fatal(err)
	}
	if len(c.Services) < 5 {
		t.Fatalf("%d services", len(c.Services))
	}
	for name, s := range c.Services {
		if s.Image != "deckle" && (!strings.Contains(s.Image, ":") || strings.HasSuffix(s.Image, ":latest")) {
			t.Errorf("%s: image %q has no version", name, s.Image)
		}
		for _, p := range s.Ports {
			if !strings.HasPrefix(p, "127.0.0.1:") {
				t.Errorf("%s: port %s is for everybody", name, p)
			}
		}
		for _, v := range s.Volumes {
			if _, ok := c.Volumes[strings.Split(v, ":")[0]]; !ok {
				t.Errorf("%s: no volume %s", name, v)
			}
		}
		for other := range s.DependsOn {
			if _, ok := c.Services[other]; !ok {
				t.Errorf("%s depends on %s, which is not there", name, other)
			}
		}
	}
	l, err := config.Source{Path: "compose.yaml",
		ReadFile: func(string) ([]byte, error) { return []byte(c.Configs["deckle"].Content), nil },
		Env: func(name string) (string, bool) {
			v, ok := c.Services["deckle"].Environment[name]
			return v, ok
		}}.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{l.Kafka.Brokers[0], l.Delta.S3.Endpoint, l.ClickHouse.Address} {
		host, _, _ := strings.Cut(strings.TrimPrefix(address, "http://"), ":")
		if _, ok := c.Services[host]; !ok {
			t.Errorf("%s is no service", address)
		}
	}
}
